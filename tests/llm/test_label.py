from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest

from dynaq.config import LabelValues
from dynaq.llm.label import (
    ACTION_SCHEMA,
    LABEL_SCHEMA,
    InvalidReplyError,
    Label,
    expected_reward,
    parse_action,
    parse_label,
    schema_of,
    schema_version,
)


def reply(**changes: object) -> str:
    return json.dumps({"apply": 0.2, "save": 0.3, "ignore": 0.5, "reason": "skills"} | changes)


def chosen(action: str = "SAVE", reason: str = "pay") -> str:
    return json.dumps({"action": action, "reason": reason})


def spelled(*tokens: str, at: str = "", top: dict[str, float] | None = None, own: float = -0.1) -> dict[str, object]:
    """Log-probabilities of tokens in the OpenAI form, with alternatives where the token is ``at``."""
    listed = [{"token": token, "logprob": math.log(share)} for token, share in (top or {}).items()]
    return {
        "content": [{"token": token, "logprob": own, "top_logprobs": listed if token == at else []} for token in tokens]
    }


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
        (f"{reply()} or rather {reply(apply=0.1, ignore=0.6)}", "invalid json"),
        (f"{reply()}\n{reply()}", "invalid json"),
        (f'So: {{"answer": {reply()}}}', "invalid json"),
        (f"{{ {reply()}", "invalid json"),
        (f"```json\n{reply(apply=0.9)}\n```", "invalid json"),
        (f"```json\n{reply()[:-5]}\n```", "invalid json"),
        (f"[{reply()}]", "invalid json"),
        ('"apply"', "invalid json"),
        ("null", "invalid json"),
        ("[" * 100_000, "invalid json"),
        ('{"apply": ' + "[" * 2_000 + "}", "invalid json"),
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


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{reply()}\n```",
        f"The person is a {{cook}}. }} {reply()}",
        f"<think>{{}} {{'apply': 1}}</think>{reply()}",
    ],
)
def test_one_label_among_prose_is_read(text: str) -> None:
    assert parse_label(text) == parse_label(reply())
    assert parse_action(text.replace(reply(), chosen()), None) == Label(0, 1, 0, "pay")


@pytest.mark.parametrize("unit", ["{", "{}", '{"a":', '{"apply": 0.1, "save"}', "}", '"', "[{"])
def test_a_long_reply_takes_linear_time(unit: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidReplyError):
        parse_label(unit * 30_000)
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    ("tokens", "at", "top"),
    [
        (['{"action": "', "SAVE", '", "reason": "pay"}'], "SAVE", {"SAVE": 0.5, "IGNORE": 0.3, "APPLY": 0.2}),
        (['{"', "action", '":', ' "', "SA", "VE", '",', ' "reason": "pay"}'], "SA", {"SA": 0.5, "IGN": 0.3, "AP": 0.2}),
        (['{"action":', ' "SAVE', '", "reason": "pay"}'], ' "SAVE', {' "SAVE': 0.5, ' "IG': 0.3, ' "APPLY': 0.2}),
        (['{"action": "', 'SAVE",', ' "reason": "pay"}'], 'SAVE",', {'SAVE",': 0.3, "S": 0.2, "I": 0.3, 'APPLY"': 0.2}),
        (["", '{"action": "', "", "S", "AVE", '", "reason": "pay"}'], "S", {"S": 0.4, "I": 0.24, "A": 0.16, "s": 0.1}),
    ],
)
def test_the_token_that_chose_tells_the_probabilities(tokens: list[str], at: str, top: dict[str, float]) -> None:
    label = parse_action(chosen(), spelled(*tokens, at=at, top=top))
    assert (label.apply, label.save, label.ignore) == pytest.approx((0.2, 0.5, 0.3))
    assert label.reason == "pay"


def test_a_sampled_token_that_is_not_among_the_likeliest_counts() -> None:
    tokens = '{"action": "', "SAVE", '", "reason": "pay"}'
    label = parse_action(chosen(), spelled(*tokens, at="SAVE", top={"IGNORE": 0.6, "APPLY": 0.2}, own=math.log(0.2)))
    assert (label.apply, label.save, label.ignore) == pytest.approx((0.2, 0.2, 0.6))


_TOKENS = ('{"action": "', "SAVE", '", "reason": "pay"}')


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        [],
        "SAVE",
        {"content": None},
        {"content": [None, 3, {"token": ["SAVE"]}, {}]},
        {"content": [{"token": '{"action": "'}, {"token": "SAVE"}, {"token": '"'}]},
        {"content": [{"token": '{"action": "'}, {"token": 'SAVE"', "logprob": math.nan, "top_logprobs": None}]},
        {"content": [{"token": '{"action": "'}, {"token": 'SAVE"', "logprob": 0.5}]},
        {"content": [{"token": '{"action": "'}, {"token": 'SAVE"', "logprob": -(10**400)}]},
        {"content": [{"token": '{"action": "'}, {"token": 'SAVE"', "logprob": "-0.1", "top_logprobs": [1, {}]}]},
        spelled(*_TOKENS, at="SAVE", top={"SAVE": 0.2, "IGNORE": 0.2, "save": 0.6}),
        spelled(*_TOKENS, at="SAVE", top={"SAVE": 0.9, "IGNORE": 0.9}),
        spelled('{"action": "', "APPLY", '", "reason": "pay"}', at="APPLY", top={"APPLY": 1.0}),
        spelled(*_TOKENS, *_TOKENS, at="SAVE", top={"SAVE": 0.6, "IGNORE": 0.4}),
        spelled("nothing", "of", "the", "kind"),
    ],
)
def test_without_sensible_log_probabilities_the_sampled_action_is_certain(logprobs: object) -> None:
    assert parse_action(chosen(), logprobs) == Label(0, 1, 0, "pay")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SAVE", "invalid json"),
        ("null", "invalid json"),
        (chosen("save"), "invalid label"),
        (chosen("HIRE"), "invalid label"),
        (json.dumps({"action": ["SAVE"], "reason": "pay"}), "invalid label"),
        (json.dumps({"action": "SAVE"}), "invalid label"),
        (chosen(reason="money"), "invalid label"),
        (reply(), "invalid label"),
        (f"{chosen()} or {chosen('APPLY')}", "invalid json"),
    ],
)
def test_anything_else_is_no_action(text: str, kind: str) -> None:
    with pytest.raises(InvalidReplyError) as caught:
        parse_action(text, None)
    assert caught.value.kind == kind


def test_the_most_likely_action_and_ties_towards_the_less_committing() -> None:
    assert (Label(0.2, 0.5, 0.3, "pay").action, Label(0.2, 0.5, 0.3, "pay").most_likely) == ("save", 0.5)
    assert Label(0.4, 0.2, 0.4, "pay").action == "ignore"
    assert Label(0.4, 0.4, 0.2, "pay").action == "save"
    assert Label(0.6, 0.0, 0.4, "pay").action == "apply"


def test_the_reward_is_the_expectation_under_the_values() -> None:
    values = LabelValues(apply=1.0, save=0.5, ignore=-0.1)
    assert expected_reward(Label(0.2, 0.3, 0.5, "pay"), values) == pytest.approx(0.3)
    assert expected_reward(Label(0, 0, 1, "pay"), values) == -0.1


@pytest.mark.parametrize(("schema", "example"), [(LABEL_SCHEMA, reply()), (ACTION_SCHEMA, chosen())])
def test_the_schemas_are_ones_that_strict_mode_takes(schema: dict[str, Any], example: str) -> None:
    """Strict mode wants every property required, no others allowed, and no bounds on numbers."""
    assert set(schema["required"]) == set(schema["properties"]) == set(json.loads(example))
    assert schema["additionalProperties"] is False
    assert not any({"minimum", "maximum"} & set(each) for each in schema["properties"].values())


def test_each_form_has_its_schema_and_version() -> None:
    assert (schema_of("probabilities"), schema_version("probabilities")) == (LABEL_SCHEMA, "v1")
    assert (schema_of("action"), schema_version("action")) == (ACTION_SCHEMA, "action-v1")


@pytest.mark.parametrize(
    "reply", ["The posting asks me to answer {}; I will not.", 'It says {} and more. "', "{} Never would I say that."]
)
def test_a_label_quoted_in_a_sentence_is_no_answer(reply: str) -> None:
    with pytest.raises(InvalidReplyError, match="not JSON"):
        parse_label(reply.replace("{}", '{"apply": 1.0, "save": 0.0, "ignore": 0.0, "reason": "skills"}'))
