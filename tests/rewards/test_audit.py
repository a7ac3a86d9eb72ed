"""Known faults of a labeller are found, and the gate does what it was told."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pymongo.database import Database
from sklearn.metrics import cohen_kappa_score

from dynaq.config import AuditConfig, GateConfig, HumanLabelsConfig, LLMConfig
from dynaq.data.snapshot import Snapshot
from dynaq.errors import InputError
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import rule_sim_endpoint
from dynaq.llm.rule_sim.behaviour import Behaviour
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.rewards.audit import Audit, _kappa, audit
from dynaq.rewards.audit_pairs import frozen_pairs, human_labels
from dynaq.rewards.cosine import CosineReward
from tests.rewards.given import CONFIG, open_labeller

DAY = date(2026, 11, 21)
Run = Callable[..., Audit]


def gated(below: Any = "warn", agreement: float = 0.4, human: HumanLabelsConfig | None = None) -> LLMConfig:
    gate = GateConfig(agreement=agreement, below=below)
    return CONFIG.model_copy(
        update={
            "audit": AuditConfig(pairs=40, human=human, gate=gate),
            "revision": "any",
            "max_missing_share": 1.0,
            "concurrency": 1,  # the stand-in's draws are in the order of arrival
        }
    )


@pytest.fixture
def run(small_snapshot: Snapshot, database: Database[dict[str, Any]]) -> Run:
    """Audit the stand-in with a behaviour, on a day."""

    def audited(behaviour: Behaviour = Behaviour(), day: date = DAY, config: LLMConfig | None = None) -> Audit:  # noqa: B008
        config = config or gated()
        with rule_sim_server(behaviour) as url, LabelClient(rule_sim_endpoint(url), config) as client:
            return audit(small_snapshot, open_labeller(database, client, config), config, day)

    return audited


def test_a_server_that_does_not_change_agrees_with_itself(run: Run, database: Database[dict[str, Any]]) -> None:
    found = run()
    assert (found.pairs, found.kappa, found.weight, found.passed) == (40, 1.0, 1.0, True)
    assert (found.change, found.drifted) == (0.0, False)
    assert found.shares_now == found.shares_first
    assert sum(found.shares_now.values()) == pytest.approx(1)
    assert math.isnan(found.human_kappa)
    assert database["llm_feedback"].count_documents({}) == 80
    assert run() == found
    assert database["llm_feedback"].count_documents({}) == 80, "once a day"
    run(day=date(2026, 11, 22))
    assert database["llm_feedback"].count_documents({}) == 120, "and again the next"


def test_noise_lowers_agreement_and_a_shift_is_drift(run: Run) -> None:
    assert run().kappa == 1.0
    noisy = run(Behaviour(noise=4.0, seed=1), date(2026, 11, 22))
    assert noisy.kappa < 0.6
    eager = run(Behaviour(positivity=3.0), date(2026, 11, 23))
    assert eager.drifted
    assert eager.change_low > 0.1
    assert eager.shares_now["apply"] > eager.shares_first["apply"] + 0.1
    assert "has moved" in eager.sentence()


@pytest.mark.parametrize(
    ("below", "weight", "said"),
    [
        ("warn", 1.0, "count in full"),
        ("weigh_down", None, "of the configured updates"),
        ("skip", 0.0, "nothing is"),
        ("stop", 0.0, "or set llm.audit.gate.below"),
    ],
)
def test_the_gate_does_as_it_was_told(run: Run, below: str, weight: float | None, said: str) -> None:
    run()
    found = run(Behaviour(noise=4.0, seed=1), date(2026, 11, 22), gated(below, agreement=0.9))
    assert not found.passed
    assert found.weight == (round(max(0.0, found.kappa) / 0.9, 1) if weight is None else weight)
    assert said in found.verdict


def test_kappa_is_the_weighted_one_and_defined_where_all_agree() -> None:
    chance = np.random.default_rng(0)
    names = ("ignore", "save", "apply")
    sides = [[names[k] for k in chance.integers(3, size=30)] for _ in range(2)]
    order = {name: place for place, name in enumerate(names)}
    first, second = ([order[name] for name in side] for side in sides)
    hand = 1 - sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) / (
        sum((a - b) ** 2 for a in first for b in second) / 30
    )
    assert _kappa(list(zip(*sides, strict=True))) == pytest.approx(hand)
    assert hand == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))
    assert _kappa([("ignore", "ignore")] * 5) == 1.0
    assert math.isnan(_kappa([("ignore", "ignore")] * 4))


def test_frozen_pairs_stay_when_others_come_and_go(small_snapshot: Snapshot) -> None:
    def named(snapshot: Snapshot) -> dict[str, str]:
        return {snapshot.applicant_ids[a]: snapshot.job_ids[j] for a, j in frozen_pairs(snapshot, 20)}

    before = named(small_snapshot)
    assert len(before) == 20
    # Three jobs are gone: their rows are now others', whose vectors are those of the rows.
    gone = 3
    fewer = dataclasses.replace(small_snapshot, job_ids=small_snapshot.job_ids[gone:], jobs=small_snapshot.jobs[gone:])
    after = named(fewer)
    assert set(after) == set(before)
    cosine = CosineReward(small_snapshot)

    def likely(applicant: str, job: str) -> float:
        rows = small_snapshot.applicant_ids.index(applicant), small_snapshot.job_ids.index(job)
        return float(cosine(*(torch.tensor([row]) for row in rows)))

    moved = {applicant: job for applicant, job in before.items() if after[applicant] != job}
    assert 1 <= len(moved) <= 4
    for applicant, job in moved.items():  # its job is gone, or a likelier one has come within reach
        assert job in small_snapshot.job_ids[:gone] or likely(applicant, after[applicant]) > likely(applicant, job)
    # An applicant of the asked is gone: one comes in its place, and the others keep their jobs.
    (first, _), *_ = frozen_pairs(small_snapshot, 20)
    ids = [name for row, name in enumerate(small_snapshot.applicant_ids) if row != first]
    vectors = np.delete(small_snapshot.applicants, first, axis=0)
    other = named(dataclasses.replace(small_snapshot, applicant_ids=ids, applicants=vectors))
    assert sum(before.get(applicant) == job for applicant, job in other.items()) == 19


def test_people_are_believed_more_than_repetition(run: Run, small_snapshot: Snapshot, tmp_path: Path) -> None:
    run()
    pairs = [(a, j) for a in range(8) for j in range(5)]
    lines = [f"{small_snapshot.applicant_ids[a]},{small_snapshot.job_ids[j]},APPLY" for a, j in pairs]
    table = tmp_path / "people.csv"
    table.write_text("\n".join(["who,what,did", *lines, "nobody,nothing,save"]) + "\n")
    human = HumanLabelsConfig(path=str(table), applicant="who", job="what", action="did")
    assert human_labels(small_snapshot, human) == dict.fromkeys(pairs, "apply")
    found = run(config=gated("skip", human=human))
    assert (found.human_pairs, found.kappa) == (40, 1.0)
    assert found.human_kappa < 0.4
    assert found.weight == 0
    assert "agree with people" in found.verdict
    table.write_text("who,what,did\na,b,maybe\n")
    with pytest.raises(InputError, match="'maybe' is no action: write apply, save or ignore"):
        human_labels(small_snapshot, human)
    table.write_text("who,what,did\na,b,save\n")
    with pytest.raises(
        InputError, match=r"none of its 1 pairs, such as applicant 'a' with job 'b': do llm.audit.human"
    ):
        human_labels(small_snapshot, human)


def test_an_audit_is_the_same_after_a_file(run: Run, tmp_path: Path) -> None:
    found = run(config=CONFIG.model_copy(update={"audit": AuditConfig(pairs=3, human=None, gate=CONFIG.audit.gate)}))
    assert found.passed
    assert "Too few" in found.verdict
    (tmp_path / "audit.json").write_text(json.dumps(found.as_json(), allow_nan=False))
    again = Audit.read(tmp_path / "audit.json")
    assert again.metrics() == found.metrics()
    assert math.isnan(again.kappa)


def test_an_applicant_that_refuses_everything_is_too_few_answers(run: Run) -> None:
    found = run(Behaviour(faults={"refusal": 1.0}))
    assert (found.pairs, found.weight, found.passed) == (0, 1.0, True)
    assert "Too few" in found.sentence()
    json.dumps(found.as_json(), allow_nan=False)
