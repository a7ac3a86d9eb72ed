"""Reading a chat completion request: what a label needs of the OpenAI protocol, and its errors for the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

from dynaq.llm.endpoint import RULE_SIM
from dynaq.llm.rule_sim.blocks import Blocks, read_blocks

_MOST_ALTERNATIVES = 20


class BadRequestError(Exception):
    """A request that gets the protocol's error."""

    def __init__(self, message: str, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        """Say what is wrong, where, and under which of the protocol's codes."""
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def response(self) -> JSONResponse:
        """As the client gets it."""
        return error_response(self.status, str(self), self.param, self.code)


@dataclass(frozen=True, slots=True)
class Question:
    """A request that can be answered.

    Attributes:
        head: the messages up to the end of the applicant's block: what a provider's prefix cache would keep.
        tail: the rest.
        schema: whether a JSON schema came with it.
        action: whether one action is asked for, not three probabilities.
        logprobs: how many alternatives to a token are asked for; None: no log-probabilities.
    """

    blocks: Blocks
    head: str
    tail: str
    schema: bool
    action: bool
    temperature: float
    seed: int | None
    logprobs: int | None


def read_question(body: bytes) -> Question:
    """Check and read the body of a request.

    Raises:
        BadRequestError: it is not one that the stand-in can answer.
    """
    try:
        asked: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequestError("the body is not JSON") from None
    if not isinstance(asked, dict):
        raise BadRequestError("the body is no JSON object")
    if asked.get("model") != RULE_SIM:
        message = f"the only model here is {RULE_SIM}, a stand-in"
        raise BadRequestError(message, status=404, param="model", code="model_not_found")
    for param, only in (("stream", False), ("n", 1)):
        if asked.get(param) not in (None, only):
            raise BadRequestError(f"{param} must be {json.dumps(only)}", param=param, code="unsupported_value")
    texts = _texts(asked.get("messages"))
    temperature = asked.get("temperature") or 0.0
    if not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
        raise BadRequestError("temperature must be a number in [0, 2]", param="temperature")
    seed = asked.get("seed")
    if not isinstance(seed, int | None):
        raise BadRequestError("seed must be an integer", param="seed")
    try:
        blocks = read_blocks(texts[-1])
    except ValueError as error:
        raise BadRequestError(str(error), param="messages") from None
    properties = _properties(asked.get("response_format"))
    return Question(
        blocks=blocks,
        head="\n".join([*texts[:-1], texts[-1][: blocks.applicant_end]]),
        tail=texts[-1][blocks.applicant_end :],
        schema=properties is not None,
        action="action" in properties if properties is not None else _instructed(asked["messages"]),
        temperature=float(temperature),
        seed=seed,
        logprobs=_logprobs(asked),
    )


def _texts(messages: Any) -> list[str]:
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages must be a list with at least one message", param="messages")
    contents = [message.get("content") if isinstance(message, dict) else None for message in messages]
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) < len(messages):
        raise BadRequestError("every message must hold a text as its content", param="messages")
    return texts


def _properties(response_format: Any) -> dict[str, Any] | None:
    """The properties of the JSON schema that was asked for; None where there is no schema."""
    if not isinstance(response_format, dict) or response_format.get("type") != "json_schema":
        return None
    try:
        properties = response_format["json_schema"]["schema"]["properties"]
    except (KeyError, TypeError):
        properties = None
    if not isinstance(properties, dict):
        raise BadRequestError("response_format needs json_schema.schema.properties", param="response_format")
    return properties


def _instructed(messages: list[dict[str, Any]]) -> bool:
    """Whether the last system message asks for one action, where no schema does."""
    systems = [message["content"] for message in messages if message.get("role") in ("system", "developer")]
    return bool(systems) and '"action"' in systems[-1]


def _logprobs(asked: dict[str, Any]) -> int | None:
    top = asked.get("top_logprobs") or 0
    if not isinstance(top, int) or not 0 <= top <= _MOST_ALTERNATIVES or (top and not asked.get("logprobs")):
        message = f"top_logprobs must be an integer in [0, {_MOST_ALTERNATIVES}], and wants logprobs"
        raise BadRequestError(message, param="top_logprobs")
    return top if asked.get("logprobs") else None


def error_response(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    kind: str = "invalid_request_error",
) -> JSONResponse:
    """The protocol's error."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status_code=status)
