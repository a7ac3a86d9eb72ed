"""The stand-in's HTTP side: as much of the OpenAI protocol as a label needs, and what it counted of it."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dynaq.llm.endpoint import RULE_SIM
from dynaq.llm.rule_sim.behaviour import Behaviour, Fault
from dynaq.llm.rule_sim.bias import BiasedApplicant
from dynaq.llm.rule_sim.faults import NO_LABEL, CutShort, Faults, spoil
from dynaq.llm.rule_sim.reply import Said, one_action, token_logprobs
from dynaq.llm.rule_sim.request import BadRequestError, Question, error_response, read_question
from dynaq.llm.rule_sim.tally import PrefixCache, Tally

DESCRIPTION = "rule-based stand-in for a language model, part of dynaq"


def create_app(behaviour: Behaviour | None = None) -> Starlette:
    """The ASGI application; whoever serves it sets the event ``state.stopping`` before it stops."""
    stand_in = _StandIn(behaviour or Behaviour())
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", stand_in.complete, methods=["POST"]),
            Route("/v1/models", _models, methods=["GET"]),
            Route("/v1/stand-in/calls", stand_in.calls, methods=["GET"]),
            Route("/v1/stand-in/pairs", stand_in.pairs, methods=["GET"]),
        ],
        exception_handlers={BadRequestError: _refuse, HTTPException: _refuse_route},
    )
    app.state.stopping = stand_in.stopping
    return app


class _StandIn:
    def __init__(self, behaviour: Behaviour) -> None:
        self.stopping = asyncio.Event()
        self._behaviour = behaviour
        self._name = f"{RULE_SIM}+biased" if behaviour.biased else RULE_SIM
        self._applicant = BiasedApplicant(behaviour)
        self._faults = Faults(behaviour)
        self._chance = random.Random(behaviour.seed)  # noqa: S311 - a simulation, no secret
        self._tally = Tally()
        self._cache = PrefixCache()

    async def calls(self, _: Request) -> Response:
        return JSONResponse(self._tally.of_calls())

    async def pairs(self, _: Request) -> Response:
        return JSONResponse(self._tally.of_pairs())

    async def complete(self, request: Request) -> Response:
        self._tally.requests += 1
        try:
            question = read_question(await request.body())
        except ClientDisconnect:  # killed in the middle of a request: nobody waits for an answer
            return Response(status_code=400)
        if self._behaviour.no_schema and question.schema:
            # In the words of a real server, which names neither the parameter nor a code.
            raise BadRequestError("'response_format' of type 'json_schema' is not supported with this model")
        fault = self._faults.draw()
        if fault is not None:
            self._tally.faults[fault] += 1
        if self._behaviour.latency_s:
            await asyncio.sleep(self._behaviour.latency_s)
        return self._faults.instead(fault, self.stopping) or self._answer(question, fault)

    def _answer(self, question: Question, fault: Fault | None) -> Response:
        """What is paid for: an answer, or what the fault makes of it."""
        chance = self._chance
        if question.seed is not None:  # like the rules: of the texts alone, whatever fences them
            seed = f"{question.seed}\0{question.blocks.applicant}\0{question.blocks.job}"
            chance = random.Random(seed)  # noqa: S311 - a simulation, no secret
        said = self._applicant.play(question.blocks, chance)
        completion = self._completion(question, said, fault, chance)
        self._tally.paid += 1
        if fault not in NO_LABEL:
            self._tally.label(question.blocks)
        return CutShort(completion) if fault == "drop" else JSONResponse(completion)

    def _completion(self, question: Question, said: Said, fault: Fault | None, chance: random.Random) -> dict[str, Any]:
        right = one_action(said, question.temperature, chance) if question.action else said
        written = spoil(fault, json.dumps(right))
        content, top = written.content, question.logprobs
        logprobs = None
        if content is not None and top is not None and not self._behaviour.no_logprobs:
            logprobs = token_logprobs(content, said, top)
        head, cached = self._cache.read(question.head)
        # Words, not tokens: the stand-in has no tokenizer.
        read, wrote = head + len(question.tail.split()), len((content or written.refusal or "").split())
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._name,
            "system_fingerprint": DESCRIPTION,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, "refusal": written.refusal},
                    "logprobs": logprobs,
                    "finish_reason": written.finish_reason,
                }
            ],
            "usage": {
                "prompt_tokens": read,
                "completion_tokens": wrote,
                "total_tokens": read + wrote,
                "prompt_tokens_details": {"cached_tokens": head if cached else 0},
            },
        }


async def _models(_: Request) -> Response:
    stand_in = {"id": RULE_SIM, "object": "model", "created": 0, "owned_by": DESCRIPTION}
    return JSONResponse({"object": "list", "data": [stand_in]})


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequestError)
    return error.response()


async def _refuse_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail)
