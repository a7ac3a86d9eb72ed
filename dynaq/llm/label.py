"""What an applicant says about a job: probabilities of three actions, checked on our side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dynaq.config import LabelValues
from dynaq.errors import LabelError

SCHEMA_VERSION = "v1"
"""Part of a stored label's key: raise it whenever LABEL_SCHEMA or its reading changes."""

ACTIONS = ("apply", "save", "ignore")
REASONS = ("skills", "seniority", "place", "pay", "interest", "other")

LABEL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{name: {"type": "number", "description": f"probability of {name.upper()}"} for name in ACTIONS},
        "reason": {"type": "string", "enum": list(REASONS)},
    },
    "required": [*ACTIONS, "reason"],
    "additionalProperties": False,
}
"""For structured output in strict mode, which knows no bounds on numbers: they are checked in parse_label."""

_ROUNDING = 0.02  # models write two decimals; a larger gap is no distribution


@dataclass(frozen=True)
class Label:
    """The applicant's answer to one job: probabilities that sum to 1, and the code of the main reason."""

    apply: float
    save: float
    ignore: float
    reason: str


class InvalidReplyError(LabelError):
    """A reply that is no label. It stays missing: it is never read as an IGNORE.

    Attributes:
        kind: ``invalid json`` or ``invalid label``, under which it is counted.
    """

    def __init__(self, kind: str, why: str) -> None:
        """Say why."""
        super().__init__(f"{kind}: {why}")
        self.kind = kind


def parse_label(text: str) -> Label:
    """Read a reply.

    Raises:
        InvalidReplyError: no JSON object, other keys than the schema's, a probability that is no number in
            [0, 1], a sum further than 0.02 from 1, or an unknown reason.
    """
    try:
        answer = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):
        raise InvalidReplyError("invalid json", "the reply is not JSON") from None
    if not isinstance(answer, dict):
        raise InvalidReplyError("invalid json", f"the reply is a {type(answer).__name__}, not an object")
    if set(answer) != {*ACTIONS, "reason"}:
        raise InvalidReplyError("invalid label", f"the keys must be {', '.join(ACTIONS)} and reason")
    if answer["reason"] not in REASONS:
        raise InvalidReplyError("invalid label", f"the reason must be one of {', '.join(REASONS)}")
    apply, save, ignore = (_probability(action, answer[action]) for action in ACTIONS)
    total = apply + save + ignore
    if abs(total - 1) > _ROUNDING:
        raise InvalidReplyError("invalid label", f"the probabilities sum to {total:.3g}, not to 1")
    return Label(apply / total, save / total, ignore / total, answer["reason"])


def expected_reward(label: Label, values: LabelValues) -> float:
    """The mean reward of the three actions, so that other values need no new labels."""
    return label.apply * values.apply + label.save * values.save + label.ignore * values.ignore


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    answer = dict(pairs)
    if len(answer) < len(pairs):  # json would silently keep the last of two probabilities
        raise ValueError
    return answer


def _probability(action: str, value: object) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if not 0 <= number <= 1:  # NaN is refused too: no comparison with it holds
        raise InvalidReplyError("invalid label", f"{action} must be a number in [0, 1]")
    return float(number)
