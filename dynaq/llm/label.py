"""What an applicant says about a job: probabilities of three actions, checked on our side."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dynaq.config import LabelValues
from dynaq.errors import LabelError
from dynaq.llm.action_logprobs import ActionName, action_shares

AnswerForm = Literal["probabilities", "action"]
"""What the LLM is asked for: three numbers, or one action whose probabilities its log-probabilities tell."""

ACTIONS: tuple[ActionName, ...] = ("apply", "save", "ignore")
REASONS = ("skills", "seniority", "place", "pay", "interest", "other")
_REASON: dict[str, Any] = {"type": "string", "enum": list(REASONS)}

LABEL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{name: {"type": "number", "description": f"probability of {name.upper()}"} for name in ACTIONS},
        "reason": _REASON,
    },
    "required": [*ACTIONS, "reason"],
    "additionalProperties": False,
}
"""For structured output in strict mode, which knows no bounds on numbers: they are checked in parse_label."""

ACTION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"action": {"type": "string", "enum": [name.upper() for name in ACTIONS]}, "reason": _REASON},
    "required": ["action", "reason"],
    "additionalProperties": False,
}

_VERSIONS: dict[AnswerForm, str] = {"probabilities": "v1", "action": "action-v1"}
_FENCE = re.compile(r"```\w{0,10}$")
_ROUNDING = 0.02  # models write two decimals; a larger gap is no distribution


@dataclass(frozen=True)
class Label:
    """The applicant's answer to one job: probabilities that sum to 1, and the code of the main reason."""

    apply: float
    save: float
    ignore: float
    reason: str

    @property
    def most_likely(self) -> float:
        """The largest of the three probabilities, in [1/3, 1]: a pair is contested where it is low."""
        return max(self.apply, self.save, self.ignore)

    @property
    def action(self) -> ActionName:
        """The most likely action; of equally likely ones the less committing."""
        shares: dict[ActionName, float] = {"ignore": self.ignore, "save": self.save, "apply": self.apply}
        return max(shares, key=shares.__getitem__)


class InvalidReplyError(LabelError):
    """A reply that is no label. It stays missing: it is never read as an IGNORE.

    Attributes:
        kind: ``invalid json`` or ``invalid label``, under which it is counted.
    """

    def __init__(self, kind: str, why: str) -> None:
        """Say why."""
        super().__init__(f"{kind}: {why}")
        self.kind = kind


def schema_of(form: AnswerForm) -> dict[str, Any]:
    """The JSON schema of a reply."""
    return {"probabilities": LABEL_SCHEMA, "action": ACTION_SCHEMA}[form]


def schema_version(form: AnswerForm) -> str:
    """Part of a stored label's key: raise it in _VERSIONS whenever the schema or its reading changes."""
    return _VERSIONS[form]


def parse_label(text: str) -> Label:
    """Read a reply that states probabilities.

    A reply that is not JSON, from a server that ignores the schema, may hold one label among prose or in a fence.

    Raises:
        InvalidReplyError: no JSON object or several labels, other keys than the schema's, a probability that is
            no number in [0, 1], a sum further than 0.02 from 1, or an unknown reason.
    """
    return _parse(text, _stated)


def parse_action(text: str, logprobs: object | None) -> Label:
    """Read a reply that names an action.

    Args:
        text: the reply; prose around the one object is borne with, as in parse_label.
        logprobs: ``choices[0].logprobs`` of the completion, or whatever the server sent in its place.

    Returns:
        The probabilities of the actions where the action was chosen. Certainty of the action that was sampled,
        where logprobs do not tell them.

    Raises:
        InvalidReplyError: no JSON object or several labels, other keys than the schema's, an unknown action or
            reason.
    """
    sampled = _parse(text, _sampled)
    shares = action_shares(sampled.action, logprobs)
    return sampled if shares is None else Label(**shares, reason=sampled.reason)


def expected_reward(label: Label, values: LabelValues) -> float:
    """The mean reward of the three actions, so that other values need no new labels."""
    return label.apply * values.apply + label.save * values.save + label.ignore * values.ignore


def _parse(text: str, read: Callable[[object], Label]) -> Label:
    try:
        answer = _json(text)
    except (ValueError, RecursionError):
        return _only_label(text, read)
    return read(answer)


def _only_label(text: str, read: Callable[[object], Label]) -> Label:
    """The one label that ends a reply or stands in its fence; what is quoted in a sentence is no answer."""
    labels = []
    for start, end in _flat_objects(text):
        try:
            labels.append((read(_json(text[start:end])), start, end))
        except (ValueError, RecursionError, InvalidReplyError):
            continue
    if len(labels) > 1:  # which one is meant would be a guess
        raise InvalidReplyError("invalid json", f"the reply holds {len(labels)} labels") from None
    for label, start, end in labels:
        before, after = text[:start].rstrip(), text[end:].strip()
        if not after or (after.startswith("```") and _FENCE.search(before)):
            return label
    raise InvalidReplyError("invalid json", "the reply is not JSON") from None


def _flat_objects(text: str) -> Iterator[tuple[int, int]]:
    """Where each top-level {...} begins and ends that holds no other: a label does not."""
    depth, start = 0, -1
    for brace in re.finditer("[{}]", text):
        if brace[0] == "{":
            depth += 1
            start = brace.start() if depth == 1 else -1
        elif depth:
            depth -= 1
            if depth == 0 and start >= 0:
                yield start, brace.end()


def _json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique_keys)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    answer = dict(pairs)
    if len(answer) < len(pairs):  # json would silently keep the last of two probabilities
        raise ValueError
    return answer


def _stated(answer: object) -> Label:
    fields = _fields(answer, *ACTIONS)
    apply, save, ignore = (_probability(action, fields[action]) for action in ACTIONS)
    total = apply + save + ignore
    if abs(total - 1) > _ROUNDING:
        raise InvalidReplyError("invalid label", f"the probabilities sum to {total:.3g}, not to 1")
    return Label(apply / total, save / total, ignore / total, fields["reason"])


def _sampled(answer: object) -> Label:
    fields = _fields(answer, "action")
    names = [name.upper() for name in ACTIONS]
    if fields["action"] not in names:
        raise InvalidReplyError("invalid label", f"the action must be one of {', '.join(names)}")
    apply, save, ignore = (float(fields["action"] == name) for name in names)
    return Label(apply, save, ignore, fields["reason"])


def _fields(answer: object, *keys: str) -> dict[str, Any]:
    """The reply as the object with these keys and a reason."""
    if not isinstance(answer, dict):
        raise InvalidReplyError("invalid json", f"the reply is a {type(answer).__name__}, not an object")
    if set(answer) != {*keys, "reason"}:
        raise InvalidReplyError("invalid label", f"the keys must be {', '.join(keys)} and reason")
    if answer["reason"] not in REASONS:
        raise InvalidReplyError("invalid label", f"the reason must be one of {', '.join(REASONS)}")
    return answer


def _probability(action: str, value: object) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if not 0 <= number <= 1:  # NaN is refused too: no comparison with it holds
        raise InvalidReplyError("invalid label", f"{action} must be a number in [0, 1]")
    return float(number)
