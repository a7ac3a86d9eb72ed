"""The judge shares a client and a store with the agents' LLM, and no answer, account or word of instruction."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from pymongo.database import Database
from torch import Tensor

from dynaq.config import BudgetConfig, LLMConfig
from dynaq.data.journal import Journal
from dynaq.data.labels import LabelStore
from dynaq.data.ledger import Ledger
from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.judges.judged import SameForAll, compare, ranked
from dynaq.evaluation.judges.relevance import Grades, Lists, sample_pairs
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import rule_sim_endpoint
from dynaq.llm.label import AnswerForm, parse_action, parse_label
from dynaq.llm.prompt import instructions
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.rewards.budget import Budget
from dynaq.rewards.cosine import CosineReward
from dynaq.rewards.judge import ACCOUNT, JudgePrompt, judge_instructions, judge_settings, judged_grades
from dynaq.rewards.labeller import Labeller
from dynaq.rewards.llm_feedback import LLMFeedback
from tests.rewards.given import CONFIG, JOURNAL, LABEL, TEXTS, Texts, open_labeller, server

PERSONA = "a recruiter of 20 years who fills posts in kitchens and workshops"
SETTINGS = judge_settings(CONFIG)
APPLICANTS, JOBS = np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6)


def judging(database: Database[dict[str, Any]], client: LabelClient, config: LLMConfig = SETTINGS) -> Labeller:
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], ACCOUNT)
    return Labeller(store, client, config, Budget(config, ledger), Journal(JOURNAL, store, ledger))


@pytest.mark.parametrize("form", ["probabilities", "action"])
def test_grades_come_over_http_and_no_agent_sees_or_pays_for_them(
    form: AnswerForm, database: Database[dict[str, Any]]
) -> None:
    config = SETTINGS.model_copy(update={"answer": form})
    with rule_sim_server() as url, LabelClient(rule_sim_endpoint(url), config) as client:
        labeller = judging(database, client, config)
        grades = judged_grades(TEXTS, labeller, config, PERSONA, APPLICANTS, JOBS)
        assert (grades.dtype, grades.shape) == (np.float32, (24,))
        assert ((grades >= 0) & (grades <= 2)).all()
        same_skills = APPLICANTS % 3 == JOBS % 3
        assert grades[same_skills].min() > grades[~same_skills].max()
        assert labeller.cost()["calls_made"] == 24
        agent = open_labeller(database, client, config)
        LLMFeedback(TEXTS, agent, config)(torch.from_numpy(APPLICANTS), torch.from_numpy(JOBS))
        assert (agent.cost()["from_store"], agent.cost()["calls_made"]) == (0, 24)
        again = judging(database, client, config)
        assert np.array_equal(judged_grades(TEXTS, again, config, PERSONA, APPLICANTS, JOBS), grades)
        assert (again.cost()["from_store"], again.cost()["calls_made"]) == (24, 0)
    versions = database["llm_feedback"].distinct("prompt_version")
    assert len(versions) == 2
    assert sum(version.startswith("judge-v1-") for version in versions) == 1
    for account in (ACCOUNT, "test"):
        assert Ledger(database["llm_spending"], account).total().labels == 24


def test_another_persona_is_asked_anew(database: Database[dict[str, Any]]) -> None:
    asked = []
    with server(lambda *_: (200, LABEL)) as endpoint, LabelClient(endpoint, SETTINGS) as client:
        for persona in (PERSONA, "a head of personnel"):
            labeller = judging(database, client)
            grades = judged_grades(TEXTS, labeller, SETTINGS, persona, APPLICANTS[:3], JOBS[:3])
            assert grades.tolist() == pytest.approx([2 * 0.5 + 0.2] * 3)
            asked.append(labeller.cost()["calls_made"])
    assert asked == [3, 3]


def test_a_model_that_changes_behind_its_name_is_heard_all_the_same(database: Database[dict[str, Any]]) -> None:
    def answer(number: int, _: str) -> tuple[int, str]:
        return 200, LABEL

    for revision in ("j-2025", "j-2026"):
        with server(answer, model=revision) as endpoint, LabelClient(endpoint, SETTINGS) as client:
            labeller = judging(database, client)
            grades = judged_grades(TEXTS, labeller, SETTINGS, PERSONA, APPLICANTS[:8], JOBS[:8])
            assert not np.isnan(grades).any()


def test_what_has_no_answer_is_missing(database: Database[dict[str, Any]]) -> None:
    texts: Any = Texts([{"hard_skills": "baking"}, {}], [{"title": f"Job {n}"} for n in range(3)])

    def answer(_: int, prompt: str) -> tuple[int, str]:
        return 200, "no idea" if "Job 1" in prompt else LABEL

    with server(answer) as endpoint, LabelClient(endpoint, SETTINGS) as client:
        pairs = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0])
        grades = judged_grades(texts, judging(database, client), SETTINGS, PERSONA, *pairs)
    assert np.isnan(grades).tolist() == [False, True, False, True]


@pytest.mark.parametrize("form", ["probabilities", "action"])
def test_its_instructions_are_its_own_and_fence_the_texts(form: AnswerForm) -> None:
    def sentences(text: str) -> set[str]:
        return {each.strip() for each in re.split(r"[.:;\n]", text) if len(each.split()) > 3 and "{" not in each}

    system, shown = JudgePrompt(applicant="hard_skills: a", job="title: b", persona=PERSONA).messages("0f", form)
    assert system["content"] == judge_instructions(PERSONA, form)
    assert f"You are {PERSONA}." in system["content"]
    assert "boundary" in system["content"]
    assert not sentences(system["content"]) & sentences(instructions(form))
    assert shown["content"].startswith("Boundary: 0f\n<applicant 0f>\nhard_skills: a\n</applicant 0f>\n<job 0f>")
    example = system["content"].splitlines()[-1]
    assert parse_label(example).ignore == 0.6 if form == "probabilities" else parse_action(example, None).save == 1


def test_arms_are_ranked_by_its_grades(small_snapshot: Snapshot, database: Database[dict[str, Any]]) -> None:
    asked = sample_pairs(small_snapshot, np.arange(60), np.arange(80), (12, 25), seed=0)
    with rule_sim_server() as url, LabelClient(rule_sim_endpoint(url), SETTINGS) as client:
        grades = judged_grades(small_snapshot, judging(database, client), SETTINGS, PERSONA, *asked)
    pairs = zip(*(side.tolist() for side in asked), strict=True)
    lists = Lists.of(small_snapshot, Grades.of(dict(zip(pairs, grades.tolist(), strict=True))), asked[1], 0, seed=0)
    assert 8 <= len(lists.applicants) <= 12
    assert lists.listed.sum() == 25 * len(lists.applicants), "nothing that was not judged is ranked"
    cosine = CosineReward(small_snapshot)

    class RawCosine:
        def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
            return cosine(applicants.repeat_interleave(jobs.shape[1]), jobs.flatten()).reshape(jobs.shape)

    arms = {"raw cosine": RawCosine(), "random": SameForAll(np.zeros(80, np.float32))}
    found = compare({name: ranked(arm, lists) for name, arm in arms.items()})
    assert found[0].metric == "NDCG@10"
    assert found[0].mean > found[2].mean + 0.1
    assert found[0].p["random"] < 0.05


def test_the_other_models_revision_and_budget_are_not_the_judges() -> None:
    budget = BudgetConfig(labels=1, tokens=None, money=None)
    agents = CONFIG.model_copy(update={"revision": "gpt-x-2025", "budget": budget})
    settings = judge_settings(agents)
    assert (settings.revision, settings.budget.labels) == ("any", None)
    assert settings.timeout_s == agents.timeout_s
