"""What the stand-in may be made to do, so that tests, the audit and the canaries look for a known answer.

Knobs of an experiment, not of a night: they have no place in the configuration, and all are neutral by default.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, Self, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dynaq.errors import ConfigError

Fault = Literal[
    "too_many",  # HTTP 429 with Retry-After
    "server_error",  # HTTP 500
    "hang",  # never answers; waits until the client gives up
    "drop",  # closes the connection in the middle of the body
    "truncated",  # half a reply, finish_reason length
    "invalid_json",  # prose
    "invalid_label",  # JSON, but a key is missing or the probabilities do not sum to 1
    "refusal",  # message.refusal instead of content
    "ignores_schema",  # the right answer, but in prose and a Markdown fence
]
FAULTS: tuple[Fault, ...] = get_args(Fault)


@dataclass(frozen=True)
class Behaviour:
    """How the stand-in departs from its rules and from good service.

    Attributes:
        positivity: added to the log-odds of APPLY, and so to those of APPLY or SAVE.
        position: likewise, as position / n for the n-th different job that this server sees with an applicant. A
            pair that is asked again keeps its n.
        noise: standard deviation of a normal draw, likewise added, fresh in each request unless it gives a seed.
        gullible: probability of obeying an order in text that no boundary fences.
        faults: kind -> share of the requests that it befalls; at most 1 together.
        retry_after: seconds in the Retry-After header of ``too_many``.
        no_schema: HTTP 400 to a response_format of type json_schema, as from servers that do not know it.
        no_logprobs: never answers with log-probabilities, whatever was asked.
        latency_s: seconds before each answer.
        seed: of the faults and, in the order of arrival, of all other fresh draws; None: from the system.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    positivity: float = 0.0
    position: float = 0.0
    noise: float = 0.0
    gullible: float = 0.0
    faults: Mapping[Fault, float] = field(default_factory=dict)
    retry_after: float = 0.05
    no_schema: bool = False
    no_logprobs: bool = False
    latency_s: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ConfigError: a number is out of its bounds, or a fault is unknown.
        """
        for name in ("positivity", "position"):
            _bound(name, getattr(self, name), -math.inf)
        for name in ("noise", "retry_after", "latency_s"):
            _bound(name, getattr(self, name), 0.0)
        _bound("gullible", self.gullible, 0.0, 1.0)
        for kind, rate in self.faults.items():
            if kind not in FAULTS:
                raise ConfigError(f"behaviour.faults.{kind} is no known fault: choose from {', '.join(FAULTS)}")
            _bound(f"faults.{kind}", rate, 0.0, 1.0)
        if (total := math.fsum(self.faults.values())) > 1 + 1e-9:
            raise ConfigError(f"the rates of behaviour.faults sum to {total:.4g}: they must not exceed 1 together")

    @property
    def biased(self) -> bool:
        """Whether its labels are others than those of the rules."""
        return any((self.positivity, self.position, self.noise, self.gullible))

    def to_json(self) -> str:
        """As ``from_json`` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a JSON object of knobs; those left out are neutral.

        Raises:
            ConfigError: no JSON object, an unknown key, a value of the wrong type or out of bounds.
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            issue = error.errors()[0]
            key = ".".join(["behaviour", *(str(part) for part in issue["loc"] if part != "[key]")])
            if issue["type"] == "unexpected_keyword_argument":
                known = ", ".join(cls.__dataclass_fields__)
                raise ConfigError(f"{key} is no known knob: choose from {known}") from None
            raise ConfigError(f"{key} is {issue['input']!r}: {issue['msg']}") from None


def _bound(name: str, value: float, least: float, most: float = math.inf) -> None:
    if not (least <= value <= most and math.isfinite(value)):  # NaN too: no comparison with it holds
        bounds = "finite" if least == -math.inf else f"in [{least:g}, {most:g}]"
        raise ConfigError(f"behaviour.{name} is {value}: it must be {bounds}")
