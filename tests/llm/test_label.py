from __future__ import annotations

import json

import pytest

from dynaq.config import LabelValues
from dynaq.llm.label import LABEL_SCHEMA, InvalidReplyError, Label, expected_reward, parse_label


def reply(**changes: object) -> str:
    return json.dumps({"apply": 0.2, "save": 0.3, "ignore": 0.5, "reason": "skills"} | changes)


def test_a_reply_is_read_and_its_probabilities_sum_to_one() -> None:
    assert parse_label(reply()) == Label(0.2, 0.3, 0.5, "skills")
    rounded = parse_label(reply(apply=0.21, save=0.3, ignore=0.5))
    assert rounded.apply + rounded.save + rounded.ignore == pytest.approx(1, abs=1e-12)
    assert rounded.apply == pytest.approx(0.21 / 1.01)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "invalid json"),
        ("I would not apply.", "invalid json"),
        (reply()[:-5], "invalid json"),
        (f"```json\n{reply()}\n```", "invalid json"),
        (f"[{reply()}]", "invalid json"),
        ('"apply"', "invalid json"),
        ("null", "invalid json"),
        ("[" * 100_000, "invalid json"),
        ("1" * 10_000, "invalid json"),
        ('{"apply": 0.9, "apply": 0.1, "save": 0.4, "ignore": 0.5, "reason": "pay"}', "invalid json"),
        ('{"apply": 0.2, "save": 0.3, "reason": "skills"}', "invalid label"),
        (reply(confidence=1), "invalid label"),
        (reply(apply="0.2"), "invalid label"),
        (reply(apply=None), "invalid label"),
        (reply(apply=[0.2]), "invalid label"),
        (reply(apply=True, save=0, ignore=0), "invalid label"),
        (reply(apply=-0.1, save=0.5, ignore=0.6), "invalid label"),
        (reply(apply=20, save=30, ignore=50), "invalid label"),
        (reply(apply=0.0, save=0.0, ignore=0.0), "invalid label"),
        (reply(apply=0.23), "invalid label"),
        (reply(apply=float("nan")), "invalid label"),
        (reply(apply=float("inf")), "invalid label"),
        (reply(reason="because"), "invalid label"),
        (reply(reason=["skills"]), "invalid label"),
        (reply(reason=None), "invalid label"),
    ],
)
def test_anything_else_is_no_label(text: str, kind: str) -> None:
    with pytest.raises(InvalidReplyError) as caught:
        parse_label(text)
    assert caught.value.kind == kind


def test_the_reward_is_the_expectation_under_the_values() -> None:
    values = LabelValues(apply=1.0, save=0.5, ignore=-0.1)
    assert expected_reward(Label(0.2, 0.3, 0.5, "pay"), values) == pytest.approx(0.3)
    assert expected_reward(Label(0, 0, 1, "pay"), values) == -0.1


def test_the_schema_is_one_that_strict_mode_takes() -> None:
    """Strict mode wants every property required, no others allowed, and no bounds on numbers."""
    assert set(LABEL_SCHEMA["required"]) == set(LABEL_SCHEMA["properties"]) == set(json.loads(reply()))
    assert LABEL_SCHEMA["additionalProperties"] is False
    assert not any({"minimum", "maximum"} & set(each) for each in LABEL_SCHEMA["properties"].values())
