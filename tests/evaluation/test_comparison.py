"""The comparison on a small snapshot: repeatable, paired between the arms, reused, and its warm start is warm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from dynaq.agents.arms import Arm
from dynaq.agents.stages import pretrain
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError
from dynaq.evaluation import comparison
from dynaq.evaluation.comparison import OnlineRun, References, read_online, read_references, reference_rewards
from dynaq.evaluation.similarity import similarity_reached
from dynaq.mdp.environment import Observation
from tests.paths import BASE_CONFIG

SEED, STEPS, APPLICANTS, CANDIDATES = 1, 12, 15, 20
COSINE, COSINE_ZERO = Arm("cosine", 0.3, SEED), Arm("cosine", 0.0, SEED)
BASELINE, BASELINE_ZERO = Arm("baseline", 0.3, SEED), Arm("baseline", 0.0, SEED)


def configured(workdir: Path, **changes: Any) -> Config:
    small = {
        "workdir": str(workdir),
        "agent.hidden": [32],
        "agent.learning_rate": 0.005,
        "agent.batch_size": 32,
        "agent.candidates": CANDIDATES,
        "compare.applicants": APPLICANTS,
        "compare.steps": STEPS,
        "compare.window": 3,
        "pretrain": {"steps": 40, "applicants_per_step": 32, "updates_per_step": 3},
    }
    return load_config(BASE_CONFIG, small | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return configured(tmp_path_factory.mktemp("work"))


class Witness(comparison.SimulatedMarketEnvironment):
    """The environment, writing down what it showed and what was answered."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.shown: list[tuple[list[int], list[list[int]]]] = []
        self.heard: dict[tuple[int, int, int], float] = {}  # (step, applicant, job) -> answer

    def observe(self, step: int) -> Observation:
        seen = super().observe(step)
        self.shown.append((seen.applicants.tolist(), seen.candidates.tolist()))
        return seen

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        answers = super().rewards(step, applicants, jobs)
        for applicant, job, answer in zip(applicants.tolist(), jobs.tolist(), answers.tolist(), strict=True):
            self.heard[step, applicant, job] = answer
        return answers


Runs = dict[Arm, tuple[Path, Witness]]


@pytest.fixture(scope="module")
def checkpoint(config: Config, small_snapshot: Snapshot) -> Path:
    return pretrain(config, small_snapshot, COSINE)


@pytest.fixture(scope="module")
def runs(config: Config, small_snapshot: Snapshot, checkpoint: Path) -> Runs:
    """Four arms of one seed, and what each of them met."""
    witnesses: list[Witness] = []

    def watched(*arguments: Any) -> Witness:
        witnesses.append(Witness(*arguments))
        return witnesses[-1]

    starts = {COSINE: checkpoint, COSINE_ZERO: checkpoint, BASELINE: None, BASELINE_ZERO: None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "SimulatedMarketEnvironment", watched)
        paths = {arm: comparison.run_online(config, small_snapshot, arm, start) for arm, start in starts.items()}
    return {arm: (path, witness) for (arm, path), witness in zip(paths.items(), witnesses, strict=True)}


@pytest.fixture(scope="module")
def earned(runs: Runs) -> dict[Arm, OnlineRun]:
    return {arm: read_online(path) for arm, (path, _) in runs.items()}


@pytest.fixture(scope="module")
def references(config: Config, small_snapshot: Snapshot) -> References:
    return read_references(reference_rewards(config, small_snapshot, SEED))


def test_a_run_says_who_earned_what_and_where_it_came_from(earned: dict[Arm, OnlineRun]) -> None:
    for arm, run in earned.items():
        assert run.arm == arm
        assert run.rewards.shape == (STEPS, APPLICANTS)
        assert set(np.unique(run.rewards)) <= {0.0, 1.0}
        assert run.curves["reward"] == pytest.approx(run.rewards.mean(axis=1))
        assert (run.labels, run.provenance) == (0, ["cosine"] if arm.agent == "cosine" else [])
    assert not np.array_equal(earned[COSINE].rewards, earned[BASELINE].rewards)


def test_the_same_run_elsewhere_has_the_same_name_and_rewards(
    runs: Runs, small_snapshot: Snapshot, tmp_path: Path
) -> None:
    first, _ = runs[BASELINE]
    again = comparison.run_online(configured(tmp_path), small_snapshot, BASELINE, None)
    assert again != first
    assert again.name == first.name
    for name in ("rewards.npy", "run.json"):
        assert (again / name).read_bytes() == (first / name).read_bytes()


def test_all_arms_meet_the_same_applicants_and_candidates(runs: Runs) -> None:
    _, first = runs[COSINE]
    assert len(first.shown) == STEPS
    for _, witness in runs.values():
        assert witness.shown == first.shown
    applicants, candidates = first.shown[0]
    assert len(set(applicants)) == APPLICANTS
    assert all(len(set(row)) == CANDIDATES for row in candidates)
    assert candidates != first.shown[1][1]


def test_the_same_job_shown_at_the_same_step_gets_the_same_answer(runs: Runs) -> None:
    witnesses = [witness for _, witness in runs.values()]
    in_common = [witnesses[0].heard.keys() & other.heard.keys() for other in witnesses[1:]]
    assert all(len(pairs) >= 5 for pairs in in_common)
    for pairs, other in zip(in_common, witnesses[1:], strict=True):
        assert all(other.heard[pair] == witnesses[0].heard[pair] for pair in pairs)


def test_nobody_earns_more_than_the_optimum(earned: dict[Arm, OnlineRun], references: References) -> None:
    assert references.optimum.shape == references.random.shape == (STEPS,)
    assert (references.optimum >= references.random).all()
    for run in earned.values():
        assert run.rewards.mean() < references.optimum.mean()


def test_what_is_there_is_reused(
    runs: Runs, config: Config, small_snapshot: Snapshot, checkpoint: Path, references: References
) -> None:
    before = {path: path.stat().st_mtime_ns for path in config.work_path.rglob("*")}
    assert pretrain(config, small_snapshot, COSINE) == checkpoint
    for arm, (path, _) in runs.items():
        start = checkpoint if arm.agent == "cosine" else None
        assert comparison.run_online(config, small_snapshot, arm, start) == path
    reference_rewards(config, small_snapshot, SEED)
    assert {path: path.stat().st_mtime_ns for path in config.work_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("compare__steps", STEPS + 1, False),
        ("compare__epsilon", 0.5, False),
        ("agent__hidden", [31], False),
        ("seed", 7, False),  # of the split
        ("compare__window", 2, True),  # read off afterwards
        ("compare__seeds", 9, True),
        ("name", "another night", True),
    ],
)
def test_a_run_is_named_by_what_it_depends_on(
    runs: Runs, config: Config, small_snapshot: Snapshot, key: str, value: Any, same: bool
) -> None:
    changed = configured(config.work_path, **{key: value})
    path, _ = runs[BASELINE]
    assert (comparison.run_online(changed, small_snapshot, BASELINE, None) == path) == same


def test_another_start_is_another_run(runs: Runs, config: Config, small_snapshot: Snapshot, checkpoint: Path) -> None:
    path, _ = runs[COSINE]
    assert comparison.run_online(config, small_snapshot, COSINE, None) != path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b'{"arm": '),
        ("run.json", b'{"arm": {"agent": "cosine", "gamma": 0.3}}'),
        ("run.json", b"[]"),
        ("run.json", b"\xff"),
        ("rewards.npy", b"no numbers"),
        ("rewards.npy", b""),
    ],
)
def test_a_damaged_run_is_refused(runs: Runs, tmp_path: Path, name: str, content: bytes) -> None:
    copy = shutil.copytree(runs[COSINE][0], tmp_path / "copy")
    (copy / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"online run .*copy cannot be read .*; delete the directory to repeat it"):
        read_online(copy)


def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    for read in (read_online, read_references):
        with pytest.raises(ArtifactError, match=r"cannot be read .*No such file"):
            read(tmp_path / "nowhere")


@pytest.mark.parametrize("kept", [0, 400])
def test_damaged_references_are_refused(config: Config, small_snapshot: Snapshot, tmp_path: Path, kept: int) -> None:
    copy = shutil.copytree(reference_rewards(config, small_snapshot, SEED), tmp_path / "copy")
    (copy / "reference.npz").write_bytes((copy / "reference.npz").read_bytes()[:kept])
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_references(copy)


def test_pretraining_is_warm_and_measured_once(config: Config, small_snapshot: Snapshot, checkpoint: Path) -> None:
    reached = similarity_reached(config, small_snapshot, COSINE, checkpoint)
    assert reached.best > reached.trained > reached.untrained
    assert reached.best > reached.random
    assert reached.share == pytest.approx(reached.trained / reached.best)
    assert reached.share > 0.8
    kept = checkpoint.with_name(checkpoint.name + "-similarity") / "similarity.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"trained": 0.0}))
    assert similarity_reached(config, small_snapshot, COSINE, checkpoint).share == 0
    kept.write_text('{"best": ')
    with pytest.raises(ArtifactError, match="similarity cannot be read"):
        similarity_reached(config, small_snapshot, COSINE, checkpoint)


def test_a_checkpoint_of_another_snapshot_does_not_start_a_run(
    config: Config, small_snapshot: Snapshot, checkpoint: Path
) -> None:
    manifest = small_snapshot.manifest.model_copy(update={"digest": "0" * 64})
    other = Snapshot(**{**vars(small_snapshot), "manifest": manifest})
    with pytest.raises(ArtifactError, match="train on this snapshot"):
        comparison.run_online(config, other, COSINE, checkpoint)
