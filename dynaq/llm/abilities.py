"""What a server can do beyond a plain chat completion, found out with the first question that is asked anyway."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from dynaq.llm.label import AnswerForm, schema_of

_REFUSED_PARAMETER = re.compile(r"http (400|415|422|500|501)( .*)?")  # 500 is llama-cpp-python's way
_REFUSED_PROMPT = {"content_filter", "context_length_exceeded", "exceed_context_size_error"}

_SPELLINGS = 5  # alternatives to a token: three actions in some spellings


@dataclass(frozen=True)
class Abilities:
    """How much of a request a server takes."""

    format: Literal["json_schema", "json_object", "text"]
    logprobs: bool

    def parameters(self, form: AnswerForm) -> dict[str, Any]:
        """The part of a request's body that uses them."""
        asked: dict[str, Any] = {}
        if self.format == "json_schema":
            schema = {"name": "applicant_answer", "strict": True, "schema": schema_of(form)}
            asked["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.format == "json_object":
            asked["response_format"] = {"type": "json_object"}
        if self.logprobs:
            asked |= {"logprobs": True, "top_logprobs": _SPELLINGS}
        return asked

    def __str__(self) -> str:
        """As a part of a sentence."""
        words = {"json_schema": "a JSON schema", "json_object": "JSON without a schema", "text": "text only"}
        return words[self.format] + (" and log-probabilities" if self.logprobs else "")


def ladder(form: AnswerForm) -> list[Abilities]:
    """From most to least; without a schema the instructions alone say what a reply looks like."""
    formats: list[Literal["json_schema", "json_object", "text"]] = ["json_schema", "json_object", "text"]
    wanted = [True, False] if form == "action" else [False]
    return [Abilities(each, logprobs) for logprobs in wanted for each in formats]


def asks_too_much(kind: str) -> bool:
    """Whether this is how a server turns down a request with parameters that it does not know."""
    return _REFUSED_PARAMETER.fullmatch(kind) is not None and kind.split()[-1] not in _REFUSED_PROMPT
