"""How likely each action was where an LLM chose one: read from the log-probabilities of its tokens.

They come from a server and are believed only as far as they make sense; else nothing is known beyond the choice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, Literal

ActionName = Literal["apply", "save", "ignore"]

_LEAST_MASS = 0.5  # of the three actions together; with less, the choice was made elsewhere
_LARGEST_MASS = 1.01  # rounding
_BEFORE_VALUE = ' \t\r\n":'  # what a token may hold before the value's first letter


def action_shares(sampled: ActionName, logprobs: object) -> dict[ActionName, float] | None:
    """Probabilities of the actions at the token that chose between them.

    Args:
        sampled: the action in the reply.
        logprobs: ``{"content": [{"token", "logprob", "top_logprobs": [{"token", "logprob"}]}]}``, the form of the
            OpenAI API, or anything else.

    Returns:
        Shares that sum to 1. None where the tokens do not spell exactly one such reply, a number is no
        log-probability, or the three actions together have less than half of the probability.
    """
    step = _choosing_step(sampled, logprobs)
    if step is None:
        return None
    mass: dict[ActionName, float] = {"apply": 0.0, "save": 0.0, "ignore": 0.0}
    for candidate in _candidates(step):
        action = _begun(candidate.get("token"))
        if action is not None:
            mass[action] += _probability(candidate.get("logprob"))
    total = sum(mass.values())
    if not _LEAST_MASS <= total <= _LARGEST_MASS:  # NaN too
        return None
    return {action: share / total for action, share in mass.items()}


def _choosing_step(sampled: ActionName, logprobs: object) -> Mapping[str, Any] | None:
    """The token with the value's first letter: the three actions begin differently."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list):
        return None
    tokens = [step.get("token") if isinstance(step, Mapping) else None for step in content]
    spelled = "".join(token for token in tokens if isinstance(token, str))
    values = [found.end() for found in re.finditer(r'"action"\s*:\s*"', spelled)]
    if len(values) != 1 or not spelled.startswith(f'{sampled.upper()}"', values[0]):
        return None
    ends = accumulate(len(token) if isinstance(token, str) else 0 for token in tokens)
    step: Mapping[str, Any] = next(step for step, end in zip(content, ends, strict=True) if end > values[0])
    return step


def _candidates(step: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The likeliest tokens, and the sampled one where it is not among them."""
    top = step.get("top_logprobs")
    likeliest = [each for each in top if isinstance(each, Mapping)] if isinstance(top, list) else []
    yield from likeliest
    if all(each.get("token") != step["token"] for each in likeliest):
        yield step


def _begun(token: object) -> ActionName | None:
    """Which action a token such as ``APPLY``, `` "APPLY``, ``AP`` or ``APPLY",`` begins."""
    value = token.lstrip(_BEFORE_VALUE) if isinstance(token, str) else ""
    names: tuple[ActionName, ...] = ("apply", "save", "ignore")
    return next((n for n in names if value and (n.upper().startswith(value) or value.startswith(n.upper()))), None)


def _probability(logprob: object) -> float:
    """NaN for what is no log-probability; -9999 and minus infinity are customary for "never"."""
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not logprob <= math.log(_LARGEST_MASS):
        return math.nan
    return math.exp(max(logprob, -700.0))
