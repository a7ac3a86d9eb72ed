"""Many prompts to one server at once: bounded, retried by the SDK alone, and nothing paid for is lost."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import openai

from dynaq.config import LLMConfig
from dynaq.errors import ConfigError
from dynaq.llm.endpoint import MODEL, RULE_SIM, Endpoint
from dynaq.llm.label import LABEL_SCHEMA, InvalidReplyError, Label, parse_label
from dynaq.llm.prompt import Prompt

_RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "applicant_answer", "strict": True, "schema": LABEL_SCHEMA},
}


@dataclass(frozen=True)
class Answer:
    """A reply that is a label, and what it cost.

    Attributes:
        raw_reply: the text that the label was read from.
        model: as the server reports it, often a dated revision of the one asked for.
        prompt_tokens, completion_tokens: as the server counts them, 0 where it does not.
        latency_s: with retries.
    """

    label: Label
    raw_reply: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float


@dataclass(frozen=True)
class Failure:
    """A call without a label.

    Attributes:
        kind: ``timeout``, ``connection``, ``http 500``, ``http 429 insufficient_quota``, ``refusal``,
            ``truncated``, ``empty reply``, ``invalid reply``, ``invalid json`` or ``invalid label``.
        prompt_tokens, completion_tokens: paid all the same; 0 where nothing was answered.
    """

    kind: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


Reply = Answer | Failure
OnReplies = Callable[[Sequence[tuple[int, Reply]]], None]


class LabelClient:
    """Asks an LLM from synchronous code; keeps its connections between calls. A context manager."""

    def __init__(self, endpoint: Endpoint, config: LLMConfig) -> None:
        """Sends nothing yet."""
        self.endpoint = endpoint
        self._config = config
        self._runner = asyncio.Runner()
        _silence_transport_logs()
        self._server = _connect(endpoint, config)

    def __enter__(self) -> Self:
        """Enter."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections and the event loop."""
        try:
            self._runner.run(self._server.close())
        finally:
            self._runner.close()

    def ask(self, prompts: Sequence[Prompt], on_replies: OnReplies) -> list[Reply]:
        """Ask all, ``concurrency`` at a time.

        Args:
            prompts: those of an applicant together, for the provider's prefix cache.
            on_replies: called from another thread with (index into prompts, reply) of all that arrived since
                its last call. No prompt takes the place of a reply before it returned: what it stores is
                stored at once, and in groups.

        Returns:
            One reply a prompt, in order.

        Raises:
            ConfigError: the server refuses the key or knows no such model. No call starts after that; those
                in flight are waited for and delivered. An error of ``on_replies`` ends asking likewise.
            KeyboardInterrupt: calls in flight are given up, but what had arrived has been delivered.
        """
        return self._runner.run(self._ask_all(prompts, on_replies))

    async def _ask_all(self, prompts: Sequence[Prompt], on_replies: OnReplies) -> list[Reply]:
        replies: dict[int, Reply] = {}
        waiting = (numbered for numbered in enumerate(prompts))
        arrived: dict[int, Reply] = {}
        delivery = asyncio.Lock()

        async def work() -> None:
            with closing(waiting):  # shared, and closed by an error: then nobody starts another call
                for index, prompt in waiting:
                    arrived[index] = replies[index] = await self._ask(prompt)
                    async with delivery:  # whoever gets here first takes along what others brought meanwhile
                        if index in arrived:
                            storing = asyncio.ensure_future(asyncio.to_thread(on_replies, _take(arrived)))
                            try:
                                await asyncio.shield(storing)
                            finally:
                                await storing  # after Ctrl-C too: what was taken is stored before this ends

        workers = (work() for _ in range(min(self._config.concurrency, len(prompts))))
        try:
            for ended in await asyncio.gather(*workers, return_exceptions=True):
                if ended is not None:
                    raise ended
        finally:  # after Ctrl-C: what was paid for is delivered all the same
            if arrived:
                on_replies(_take(arrived))
        return [replies[index] for index in range(len(prompts))]

    async def _ask(self, prompt: Prompt) -> Reply:
        body = {
            "model": self.endpoint.model,
            "messages": prompt.messages,
            "response_format": _RESPONSE_FORMAT,
            "temperature": self._config.temperature,
        }
        started = time.perf_counter()
        try:
            # Not chat.completions.create: half of its time goes into typed copies of what we check ourselves.
            completion = await self._server.post("/chat/completions", cast_to=object, body=body)
        except openai.APITimeoutError:
            return Failure("timeout")
        except openai.APIConnectionError:
            return Failure("connection")
        except openai.APIStatusError as error:
            return self._refused(error.status_code, error.code)
        except ValueError:  # a body that says it is JSON and is not
            return Failure("invalid reply")
        return _read(completion, time.perf_counter() - started)

    def _refused(self, status: int, code: str | None) -> Failure:
        """A missing label, or the end where every further call would be refused too."""
        if status in (401, 403):
            raise ConfigError(
                f"the LLM server refused the key (HTTP {status}): check {self._variable('KEY')}"
            ) from None
        if status == 404:
            raise ConfigError(
                f"the LLM server has no model {self.endpoint.model!r} at this address (HTTP 404):"
                f" check {MODEL} and {self._variable('URL')}"
            ) from None
        # Only a code such as insufficient_quota: anything longer could quote the request.
        named = code is not None and re.fullmatch("[a-z_]{1,40}", code)
        return Failure(f"http {status} {code}" if named else f"http {status}")

    def _variable(self, what: str) -> str:
        if self.endpoint.azure_version is None:
            return {"KEY": "OPENAI_API_KEY", "URL": "OPENAI_BASE_URL"}[what]
        return {"KEY": "AZURE_OPENAI_API_KEY", "URL": "AZURE_OPENAI_ENDPOINT"}[what]


def _connect(endpoint: Endpoint, config: LLMConfig) -> openai.AsyncOpenAI:
    address, key = urlsplit(endpoint.url.get_secret_value()), endpoint.key.get_secret_value()
    # Without the credentials that it may hold: httpx logs each URL with its password.
    url = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
    http_client = openai.DefaultAsyncHttpxClient(
        auth=(unquote(address.username or ""), unquote(address.password or "")) if "@" in address.netloc else None,
        # The stand-in is on loopback, where a proxy from the environment would not find it.
        trust_env=endpoint.provenance != RULE_SIM,
    )
    if endpoint.azure_version is not None:
        return openai.AsyncAzureOpenAI(
            azure_endpoint=url,
            api_key=key,
            api_version=endpoint.azure_version,
            timeout=config.timeout_s,
            max_retries=config.max_retries,
            http_client=http_client,
        )
    return openai.AsyncOpenAI(
        base_url=url,
        api_key=key,
        timeout=config.timeout_s,
        max_retries=config.max_retries,
        http_client=http_client,
    )


def _silence_transport_logs() -> None:
    """At INFO they log each URL, at DEBUG some log headers and prompts."""
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _take(arrived: dict[int, Reply]) -> list[tuple[int, Reply]]:
    taken = list(arrived.items())
    arrived.clear()
    return taken


def _read(completion: Any, latency_s: float) -> Reply:
    """A label from the body of a chat completion; whatever else the server may have sent is a failure."""
    try:
        choice = completion["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        usage = completion.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        content, refusal = message.get("content"), message.get("refusal")
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
        return Failure("invalid reply")
    if refusal or finish == "content_filter":
        return Failure("refusal", *tokens)
    if finish == "length":
        return Failure("truncated", *tokens)
    if not content:
        return Failure("empty reply", *tokens)
    if not isinstance(content, str):
        return Failure("invalid reply", *tokens)
    try:
        label = parse_label(content)
    except InvalidReplyError as error:
        return Failure(error.kind, *tokens)
    return Answer(label, content, str(completion.get("model") or ""), *tokens, latency_s)
