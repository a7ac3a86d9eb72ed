"""What comes back from a call: a label and what it cost, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from dynaq.llm.label import AnswerForm, InvalidReplyError, Label, parse_action, parse_label

_MOST_TOKENS, _LONGEST_NAME = 2**31 - 1, 100  # whatever a server says ends up in a database and in errors


class Tokens(NamedTuple):
    """As the server counts them, 0 where it does not; ``cached`` are among ``prompt``."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


NO_TOKENS = Tokens()


@dataclass(frozen=True)
class Answer:
    """A reply that is a label, and what it cost.

    Attributes:
        raw_reply: the text that the label was read from.
        model: as the server reports it, often a dated revision of the one asked for.
        latency_s: with retries.
        logprobs: whether the probabilities are those of the action's token.
    """

    label: Label
    raw_reply: str
    model: str
    tokens: Tokens
    latency_s: float
    logprobs: bool = False


@dataclass(frozen=True)
class Failure:
    """A call without a label.

    Attributes:
        kind: ``timeout``, ``connection``, ``http 500``, ``http 429 insufficient_quota``, ``refusal``,
            ``truncated``, ``empty reply``, ``invalid reply``, ``invalid json`` or ``invalid label``.
        tokens: paid all the same; none where nothing was answered.
        retry_after_s: how long the server asks to be left alone.
    """

    kind: str
    tokens: Tokens = NO_TOKENS
    retry_after_s: float = 0.0


Reply = Answer | Failure


def read_completion(completion: Any, form: AnswerForm, latency_s: float) -> Reply:
    """A label from the body of a chat completion; whatever else the server may have sent is a failure."""
    try:
        choice = completion["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content, refusal = message.get("content"), message.get("refusal")
        tokens = _tokens(completion.get("usage") or {})
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
        return Failure("invalid reply")
    if refusal or finish == "content_filter":
        return Failure("refusal", tokens)
    if finish == "length":
        return Failure("truncated", tokens)
    if not content:
        return Failure("empty reply", tokens)
    if not isinstance(content, str):
        return Failure("invalid reply", tokens)
    logprobs = choice.get("logprobs")
    try:
        label = parse_label(content) if form == "probabilities" else parse_action(content, logprobs)
    except InvalidReplyError as error:
        return Failure(error.kind, tokens)
    return Answer(
        label,
        _storable(content),
        _storable(str(completion.get("model") or ""))[:_LONGEST_NAME],
        tokens,
        latency_s,
        bool(logprobs) and label.most_likely < 1,
    )


def _tokens(usage: Any) -> Tokens:
    details = usage.get("prompt_tokens_details") or {}
    counts = usage.get("prompt_tokens"), details.get("cached_tokens"), usage.get("completion_tokens")
    prompt, cached, written = (min(max(0, int(count or 0)), _MOST_TOKENS) for count in counts)
    return Tokens(prompt, min(cached, prompt), written)


def _storable(text: str) -> str:
    """JSON may hold half a character, MongoDB may not."""
    return text.encode(errors="replace").decode()
