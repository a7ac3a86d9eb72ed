"""What goes wrong on the way: which requests a fault befalls, and what it makes of their answers."""

from __future__ import annotations

import asyncio
import json
import random
from itertools import accumulate
from typing import Any, NamedTuple

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from dynaq.llm.rule_sim.behaviour import FAULTS, Behaviour, Fault
from dynaq.llm.rule_sim.request import error_response

NO_LABEL: frozenset[Fault | None] = frozenset({"drop", "truncated", "invalid_json", "invalid_label", "refusal"})
"""Faults after which a paid answer holds no label."""


class Faults:
    """Draws one fault, or none, for each request."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._retry_after = behaviour.retry_after
        # A generator of their own: which requests fail does not depend on what the others are answered.
        self._chance = random.Random(behaviour.seed)  # noqa: S311 - a simulation, no secret
        rates = [behaviour.faults.get(kind, 0.0) for kind in FAULTS]
        self._thresholds = list(zip(accumulate(rates), FAULTS, strict=True)) if any(rates) else []

    def draw(self) -> Fault | None:
        """The fault of the next request."""
        if not self._thresholds:
            return None
        drawn = self._chance.random()
        return next((kind for threshold, kind in self._thresholds if drawn < threshold), None)

    def instead(self, kind: Fault | None, stopping: asyncio.Event) -> Response | None:
        """What a request gets that is never answered, and so is not paid for; None where it is answered."""
        if kind == "too_many":
            refused = error_response(429, "too many requests", code="rate_limit_exceeded", kind="requests")
            refused.headers["Retry-After"] = f"{self._retry_after:g}"
            return refused
        if kind == "server_error":
            return error_response(500, "the server had an error", kind="server_error")
        return _Silence(stopping) if kind == "hang" else None


class Written(NamedTuple):
    """The text of a reply, or a refusal in its place, and why it ends there."""

    content: str | None
    refusal: str | None = None
    finish_reason: str = "stop"


def spoil(kind: Fault | None, content: str) -> Written:
    """What a fault makes of a right answer."""
    if kind == "truncated":
        return Written(content[: len(content) // 2], finish_reason="length")
    if kind == "invalid_json":
        return Written("The person would probably have a look at it.")
    if kind == "invalid_label":
        return Written(_no_label(json.loads(content)))
    if kind == "refusal":
        return Written(None, refusal="I cannot help with that.")
    if kind == "ignores_schema":
        return Written(f"Here is the answer:\n```json\n{content}\n```\nLet me know if you need more.")
    return Written(content)


def _no_label(answer: dict[str, Any]) -> str:
    """JSON all the same: an action that there is not, a sum above 1, or a key that is missing."""
    if "action" in answer:
        answer["action"] = "MAYBE"
    elif answer["ignore"] < 0.5:
        answer["ignore"] += 0.5
    else:
        del answer["ignore"]
    return json.dumps(answer)


class CutShort(JSONResponse):
    """Drops the connection in the middle of the body: the server closes it when a response stays unfinished."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head and half of the body that it announces."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


class _Silence(Response):
    """Says nothing until the client gives up or the server stops."""

    def __init__(self, stopping: asyncio.Event) -> None:
        super().__init__(status_code=503)
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait; the body was read, so that the one message left to receive is the disconnection."""
        ends = [asyncio.ensure_future(receive()), asyncio.ensure_future(self._stopping.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        if self._stopping.is_set():
            await super().__call__(scope, receive, send)
