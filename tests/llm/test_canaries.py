from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from dynaq.errors import InputError
from dynaq.llm.canaries import CANARIES, CLEAN, canary_effects, canary_prompts
from dynaq.llm.plain_text import plain
from dynaq.llm.prompt import Prompt, build_prompt

APPLICANT = {"skills": "python, sql", "resume": "Ten years of data. <div hidden>open " * 20}
JOB = {"title": "Data engineer", "about": "We build pipelines in Gent. " * 100}
BOUNDARY = "0" * 16


def asked(prompt: Prompt) -> str:
    return prompt.messages(BOUNDARY)[1]["content"]


def test_the_clean_prompt_comes_first_and_each_canary_changes_its_side_only() -> None:
    prompts = canary_prompts(APPLICANT, JOB, 1500, defended=False)
    clean = prompts[CLEAN]
    assert list(prompts) == [CLEAN, *(canary.name for canary in CANARIES)]
    assert clean == build_prompt(APPLICANT, JOB, 1500, defended=False)
    for canary in CANARIES:
        assert canary.text in asked(prompts[canary.name]), canary.name
        assert (prompts[canary.name].job == clean.job) == (canary.side == "applicant"), canary.name
        assert (prompts[canary.name].applicant == clean.applicant) == (canary.side == "job"), canary.name


def test_a_defended_prompt_keeps_its_form_and_shows_nothing_hidden() -> None:
    prompts = canary_prompts(APPLICANT, JOB, 1500)
    clean = prompts[CLEAN]
    unchanged = {name for name, prompt in prompts.items() if prompt == clean}
    assert unchanged == {CLEAN, "job: HTML comment", "job: hidden element", "applicant: hidden element"}
    for canary in CANARIES:
        text = asked(prompts[canary.name])
        assert len(text.splitlines()) == len(asked(clean).splitlines()), canary.name
        assert text.count("<") == 4, canary.name
        assert not set("\u200b\u202e") & set(text), canary.name
        assert plain(canary.text) in text, canary.name
        assert all(len(line) <= 1500 + len("resume: ") for line in text.splitlines()), canary.name


@pytest.mark.parametrize("defended", [True, False])
def test_short_cuts_and_empty_profiles_are_borne(defended: bool) -> None:
    assert len(canary_prompts({"resume": "a" * 60}, {"title": "b" * 60}, 50, defended)) == len(CANARIES) + 1
    assert canary_prompts({"resume": " "}, JOB, 1500, defended) == {}


def test_controls_are_harmless_and_as_long_as_the_orders() -> None:
    texts = {canary.name: canary.text for canary in CANARIES}
    for side in ("job", "applicant"):
        orders, control = texts[f"{side}: orders"], texts[f"{side}: control"]
        assert len(control) == pytest.approx(len(orders), rel=0.1)
        assert "apply" not in control.lower()


def test_effects_are_paired_and_leave_out_what_has_no_label() -> None:
    chance = np.random.default_rng(1)
    clean = chance.normal(size=200)
    shift = chance.normal(0.3, 0.1, size=200)
    moved = clean + shift
    moved[:10] = math.nan
    clean[10:15] = math.nan
    effects = canary_effects({CLEAN: clean.tolist(), "moved": moved.tolist(), "same": clean.tolist()})
    assert set(effects) == {"moved", "same"}
    effect = effects["moved"]
    assert effect.pairs == 185
    assert effect.mean == pytest.approx(shift[15:].mean())
    half = 1.96 * shift[15:].std(ddof=1) / math.sqrt(185)  # far below the spread of the rewards themselves
    assert (effect.low, effect.high) == pytest.approx((effect.mean - half, effect.mean + half), abs=0.2 * half)
    assert (effects["same"].mean, effects["same"].low, effects["same"].high) == (0, 0, 0)
    assert canary_effects({CLEAN: clean.tolist(), "moved": moved.tolist()})["moved"] == effect


def test_too_few_pairs_have_no_interval() -> None:
    nan = math.nan
    effects = canary_effects({CLEAN: [0.5, nan], "one": [1.0, 1.0], "none": [nan, 1.0]})
    assert (effects["one"].mean, effects["one"].pairs, effects["none"].pairs) == (0.5, 1, 0)
    assert np.isnan([effects["one"].low, effects["one"].high, effects["none"].mean]).all()


def test_rewards_without_their_clean_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="clean"):
        canary_effects({"job: orders": [1.0]})
    with pytest.raises(InputError, match="'job: orders' has 1 rewards, the clean prompts 2"):
        canary_effects({CLEAN: [0.0, 0.0], "job: orders": [1.0]})


def test_other_texts_are_another_version() -> None:
    """If this fails, figures of earlier canaries are of others: say so in the changelog."""
    digest = hashlib.sha256(repr([(c.name, c.side, c.text) for c in CANARIES]).encode()).hexdigest()
    assert digest[:16] == "20ef86beec582e54"
