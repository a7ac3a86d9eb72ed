"""The stand-in's HTTP side: as much of the OpenAI protocol as a label needs, with that protocol's errors."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dynaq.llm.endpoint import RULE_SIM
from dynaq.llm.rule_sim.applicant import answer

DESCRIPTION = "rule-based stand-in for a language model, part of dynaq"


class _BadRequestError(Exception):
    def __init__(self, message: str, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


def create_app() -> Starlette:
    """The ASGI application."""
    return Starlette(
        routes=[
            Route("/v1/chat/completions", _complete, methods=["POST"]),
            Route("/v1/models", _models, methods=["GET"]),
        ],
        exception_handlers={_BadRequestError: _refuse, HTTPException: _refuse_route},
    )


async def _complete(request: Request) -> Response:
    messages = _messages(await request.body())
    prompt = "\n".join(messages)
    try:
        reply = json.dumps(answer(prompt))
    except ValueError as error:
        raise _BadRequestError(str(error), param="messages") from None
    read, written = len(prompt.split()), len(reply.split())
    return JSONResponse(
        {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": RULE_SIM,
            "system_fingerprint": DESCRIPTION,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": reply, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            # Words, not tokens: the stand-in has no tokenizer.
            "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
        }
    )


async def _models(_: Request) -> Response:
    stand_in = {"id": RULE_SIM, "object": "model", "created": 0, "owned_by": DESCRIPTION}
    return JSONResponse({"object": "list", "data": [stand_in]})


def _messages(body: bytes) -> list[str]:
    """The texts of a request, or what is wrong with it."""
    try:
        asked: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise _BadRequestError("the body is not JSON") from None
    if not isinstance(asked, dict):
        raise _BadRequestError("the body is no JSON object")
    if asked.get("model") != RULE_SIM:
        message = f"the only model here is {RULE_SIM}, a stand-in"
        raise _BadRequestError(message, status=404, param="model", code="model_not_found")
    for param, only in (("stream", False), ("n", 1)):
        if asked.get(param) not in (None, only):
            message = f"{param} must be {json.dumps(only)}"
            raise _BadRequestError(message, param=param, code="unsupported_value")
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _BadRequestError("messages must be a list with at least one message", param="messages")
    contents = [message.get("content") if isinstance(message, dict) else None for message in messages]
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) < len(messages):
        raise _BadRequestError("every message must hold a text as its content", param="messages")
    return texts


def _error(status: int, message: str, param: str | None = None, code: str | None = None) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return JSONResponse({"error": error}, status_code=status)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, _BadRequestError)
    return _error(error.status, str(error), error.param, error.code)


async def _refuse_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail)
