"""From the probabilities to the text of a reply, in the form that was asked for, and to log-probabilities."""

from __future__ import annotations

import math
import random
import re
from typing import Any

ACTIONS = ("APPLY", "SAVE", "IGNORE")
_IMPOSSIBLE = -9999.0  # OpenAI's log-probability of what has none

Said = dict[str, float | str]
"""What the applicant said: probabilities ``apply``, ``save``, ``ignore`` and a ``reason``."""


def one_action(said: Said, temperature: float, chance: random.Random) -> dict[str, str]:
    """The most likely action at temperature 0, else one drawn from the probabilities, however warm it is."""
    weights = [float(said[action.lower()]) for action in ACTIONS]
    action = chance.choices(ACTIONS, weights)[0] if temperature else ACTIONS[weights.index(max(weights))]
    return {"action": action, "reason": str(said["reason"])}


def token_logprobs(content: str, said: Said, top: int) -> dict[str, list[dict[str, Any]]]:
    """As in a chat completion: tokens that join to the content, each with its ``top`` likeliest alternatives.

    There is no tokenizer: tokens are words and what is between them. Only an action's has alternatives.
    """
    likely = {action: _log(float(said[action.lower()])) for action in ACTIONS}
    ranked = [_token(action, likely[action]) for action in sorted(ACTIONS, key=likely.__getitem__, reverse=True)]
    tokens = []
    for text in re.findall(r"\w+|\W+", content):
        token = _token(text, likely.get(text, 0.0))
        tokens.append(token | {"top_logprobs": (ranked if text in likely else [token])[:top]})
    return {"content": tokens}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": None}


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else _IMPOSSIBLE
