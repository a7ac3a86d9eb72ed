"""Online runs on a small snapshot: repeatable, paired between contestants, reused, and made anew if damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from dynaq.agents.stages import json_curves
from dynaq.agents.trainer import Curves
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError, InputError
from dynaq.evaluation import online
from dynaq.evaluation.contestants import Contestant, contestants
from dynaq.evaluation.market.world import OWN, World, worlds
from dynaq.evaluation.online import OnlineRun, read_online, run_online
from dynaq.evaluation.panel import make_panel, read_panel
from dynaq.mdp.environment import Observation
from tests.evaluation.online_toys import APPLICANTS, BASELINE, COSINE, SEED, STEPS, Titles, configured


class Witness(online.OnlineEnvironment):
    """The environment, writing down what it showed and what was answered."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.offered: list[list[list[int]]] = []
        self.heard: dict[tuple[int, int, int], float] = {}  # (step, applicant, job) -> answer

    def observe(self, step: int) -> Observation:
        seen = super().observe(step)
        self.offered.append(seen.candidates.tolist())
        return seen

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        answers = super().rewards(step, applicants, jobs)
        for applicant, job, answer in zip(applicants.tolist(), jobs.tolist(), answers.tolist(), strict=True):
            self.heard[step, applicant, job] = answer
        return answers


Runs = dict[Contestant, tuple[Path, Witness]]


@pytest.fixture(scope="module")
def runs(config: Config, small_snapshot: Snapshot, panel: Path, checkpoint: Path, tuned: list[Path]) -> Runs:
    """Everybody of one seed that differs, and what each of them met."""
    witnesses: list[Witness] = []

    def watched(*arguments: Any) -> Witness:
        witnesses.append(Witness(*arguments))
        return witnesses[-1]

    everybody = [each for each in contestants(0.3, [20, 60]) if each.gamma == 0.3 and each.kind != "llm"]
    everybody += [Contestant("challenger", 0.3)]
    paths = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "OnlineEnvironment", watched)
        for each in everybody:
            start = {0: checkpoint if each.kind == "cosine" else None, 20: tuned[0], 60: tuned[1]}[each.labels]
            start = tuned[1] if each.kind == "challenger" else start
            paths[each] = run_online(config, small_snapshot, panel, each, World(OWN), SEED, start)
    return {each: (path, witness) for (each, path), witness in zip(paths.items(), witnesses, strict=True)}


@pytest.fixture(scope="module")
def earned(runs: Runs) -> dict[Contestant, OnlineRun]:
    return {each: read_online(path) for each, (path, _) in runs.items()}


def test_a_run_says_who_earned_what_and_where_it_came_from(earned: dict[Contestant, OnlineRun], config: Config) -> None:
    for each, run in earned.items():
        assert (run.contestant, run.world, run.seed) == (each, World(OWN), SEED)
        assert run.rewards.shape == run.chances.shape == run.best.shape == (STEPS, APPLICANTS)
        assert run.ndcg.shape == (2, APPLICANTS)
        assert set(np.unique(run.rewards)) <= {0.0, 1.0}
        assert run.curves["reward"] == pytest.approx(run.rewards.mean(axis=1))
        assert (run.best >= run.chances - 1e-6).all()
        assert run.curves["epsilon"] == [config.compare.epsilon] * STEPS  # the same exploration for all
        assert 0 <= run.profile["end"]["gini"] <= 1
        assert set(run.agreement) == {"cosine", "llm"}
    hybrid, baseline = earned[Contestant("hybrid", 0.3, 60)], earned[BASELINE]
    assert hybrid.provenance == ["cosine", "llm:titles"]
    assert (hybrid.before["labels"], hybrid.before["tokens"]) == (60, 600)
    assert 40 * 3 + 5 * 8 <= hybrid.before["gradient_steps"] <= 2 * (40 * 3 + 5 * 8)  # planning is in it
    assert (baseline.provenance, baseline.start) == ([], None)
    assert baseline.before == {"labels": 0, "tokens": 0, "gradient_steps": 0}
    assert len(baseline.profile["end"]["calibration"]) == 10
    assert baseline.profile["launch"]["calibration"] is None


def test_the_optimum_is_the_best_slate_and_raw_cosine_the_best_cosine(earned: dict[Contestant, OnlineRun]) -> None:
    optimum, random = earned[Contestant("optimum", 0.3)], earned[Contestant("random", 0.3)]
    assert optimum.chances == pytest.approx(optimum.best)
    assert optimum.ndcg == pytest.approx(np.ones((2, APPLICANTS)))
    assert optimum.chances.mean() > random.chances.mean() + 0.1
    reached = earned[Contestant("raw cosine", 0.3)].profile["launch"]["reached"]
    assert reached["cosine"] == pytest.approx(1)
    assert earned[COSINE].profile["launch"]["reached"]["cosine"] > 0.5 > reached["llm"]


def test_the_challenger_is_the_checkpoint_whatever_the_seed(
    earned: dict[Contestant, OnlineRun], config: Config, small_snapshot: Snapshot, panel: Path, tuned: list[Path]
) -> None:
    challenger, hybrid = earned[Contestant("challenger", 0.3)], earned[Contestant("hybrid", 0.3, 60)]
    assert np.array_equal(challenger.rewards, hybrid.rewards)  # of the same seed
    elsewhere = run_online(config, small_snapshot, panel, challenger.contestant, World(OWN), SEED + 1, tuned[1])
    assert read_online(elsewhere).start == challenger.start


def test_the_same_run_elsewhere_has_the_same_name_and_bytes(
    runs: Runs, small_snapshot: Snapshot, tmp_path: Path, panel: Path
) -> None:
    first, _ = runs[BASELINE]
    copied = shutil.copytree(panel, tmp_path / "panels" / panel.name)
    again = run_online(configured(tmp_path), small_snapshot, copied, BASELINE, World(OWN), SEED, None)
    assert again != first
    assert again.name == first.name
    for name in ("run.npz", "run.json"):
        assert (again / name).read_bytes() == (first / name).read_bytes()


def test_all_meet_the_same_candidates_but_those_they_were_taken_up_on(runs: Runs) -> None:
    _, first = runs[COSINE]
    for _, witness in runs.values():
        assert witness.offered[0] == first.offered[0]
        for applicant, offered in enumerate(witness.offered[-1]):
            row = int(witness.applicants[applicant])
            taken = {job for (_, a, job), answer in witness.heard.items() if a == row and answer}
            last = {
                job for (step, a, job), answer in witness.heard.items() if a == row and answer and step == STEPS - 1
            }
            assert not set(offered) & (taken - last)


def test_the_same_job_shown_at_the_same_step_and_mood_gets_the_same_answer(runs: Runs) -> None:
    witnesses = [witness for _, witness in runs.values()]
    first_step = [{pair: answer for pair, answer in w.heard.items() if pair[0] == 0} for w in witnesses]
    for other in first_step[1:]:
        assert all(other[pair] == first_step[0][pair] for pair in other.keys() & first_step[0].keys())
    assert sum(len(other.keys() & first_step[0].keys()) for other in first_step[1:]) > 10


def test_a_dialled_world_agrees_as_told(
    config: Config, small_snapshot: Snapshot, panel: Path, checkpoint: Path
) -> None:
    wanted = worlds(
        configured(config.work_path, compare__dial={"levels": [0, 1], "rewards": ["llm", "cosine"]}).compare.dial
    )
    assert wanted == [World("llm", 0.0), World("llm", 1.0), World("cosine", 1.0)]
    agreements, averages = {}, {}
    for world in wanted:
        runs = {
            each: read_online(run_online(config, small_snapshot, panel, each, world, SEED, start))
            for each, start in ((COSINE, checkpoint), (BASELINE, None))
        }
        agreements[world] = runs[COSINE].agreement
        averages[world] = runs[COSINE].chances[:3].mean() - runs[BASELINE].chances[:3].mean()
    assert agreements[World("llm", 1.0)]["llm"] == pytest.approx(1)
    assert agreements[World("cosine", 1.0)]["cosine"] == pytest.approx(1)
    assert list(agreements[World("llm", 0.0)].values()) == pytest.approx([0, 0], abs=1e-4)
    assert averages[World("cosine", 1.0)] > averages[World("llm", 0.0)] + 0.1
    late = config.compare.late_steps
    assert 1 <= late < STEPS
    assert runs[COSINE].knows.shape == (late, len(runs[COSINE].rewards[0]))  # the last thing that the map asks
    more = configured(config.work_path, compare__late_share=1.0)
    asked_all_along = read_online(run_online(more, small_snapshot, panel, COSINE, wanted[-1], SEED, checkpoint))
    assert np.array_equal(asked_all_along.rewards, runs[COSINE].rewards)
    assert np.array_equal(asked_all_along.knows[-late:], runs[COSINE].knows)


def test_what_is_there_is_reused(runs: Runs, config: Config, small_snapshot: Snapshot, panel: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in config.work_path.rglob("*") if path.is_file()}
    assert run_online(config, small_snapshot, panel, BASELINE, World(OWN), SEED, None) == runs[BASELINE][0]
    llm: Any = Titles()
    assert make_panel(config, small_snapshot, llm, {"who": "titles"}) == panel
    after = {path: path.stat().st_mtime_ns for path in config.work_path.rglob("*") if path.is_file()}
    assert after == before


def test_a_damaged_run_is_set_aside_and_made_anew(small_snapshot: Snapshot, tmp_path: Path) -> None:
    config = configured(tmp_path)
    panel = make_panel(config, small_snapshot, None, {})
    path = run_online(config, small_snapshot, panel, BASELINE, World(OWN), SEED, None)
    whole = {file.name: file.read_bytes() for file in path.iterdir()}
    (path / "run.json").write_bytes(whole["run.json"].replace(b'"seed": 1', b'"seed": 7'))  # JSON all the same
    (panel / "missing.json").unlink()
    assert make_panel(config, small_snapshot, None, {}) == panel
    assert read_panel(panel).missing == {"cosine": 0}
    assert run_online(config, small_snapshot, panel, BASELINE, World(OWN), SEED, None) == path
    assert {file.name: file.read_bytes() for file in path.iterdir()} == whole
    aside = {each.name.rsplit("-", 3)[0] for each in (tmp_path / "damaged").iterdir()}
    assert aside == {path.name, panel.name}


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("compare__steps", STEPS + 1, False),
        ("compare__epsilon", 0.5, False),
        ("agent__hidden", [31], False),
        ("compare__window", 2, True),  # read off afterwards
        ("compare__seeds", 9, True),
        ("name", "another night", True),
    ],
)
def test_a_run_is_named_by_what_it_depends_on(
    runs: Runs, config: Config, small_snapshot: Snapshot, panel: Path, key: str, value: Any, same: bool
) -> None:
    changed = configured(config.work_path, **{key: value})
    there = run_online(changed, small_snapshot, panel, BASELINE, World(OWN), SEED, None)
    assert (there == runs[BASELINE][0]) == same


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b'{"contestant": '),
        ("run.json", b"[]"),
        ("run.json", b"\xff"),
        ("run.npz", b"no numbers"),
        ("run.npz", b""),
    ],
)
def test_a_damaged_run_is_refused(runs: Runs, tmp_path: Path, name: str, content: bytes) -> None:
    copy = shutil.copytree(runs[COSINE][0], tmp_path / "copy")
    (copy / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"online run .*copy cannot be read .*: run the flow again to make it anew"):
        read_online(copy)
    with pytest.raises(ArtifactError, match=r"panel .*copy cannot be read"):
        read_panel(copy)


def test_an_agent_that_has_diverged_is_refused_by_name(small_snapshot: Snapshot, tmp_path: Path) -> None:
    config = configured(tmp_path, agent__learning_rate=1e20)
    panel = make_panel(config, small_snapshot, None, {})
    with pytest.raises(InputError, match="baseline, seed 1, gives scores that are no finite numbers: its training has"):
        run_online(config, small_snapshot, panel, BASELINE, World(OWN), SEED, None)


def test_curves_are_json_whatever_a_loss_was() -> None:
    curves = json_curves(Curves({"q_loss": np.array([0.5, np.nan, np.inf, -np.inf])}))
    assert json.dumps(curves, allow_nan=False) == '{"q_loss": [0.5, null, null, null]}'
