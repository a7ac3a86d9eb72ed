"""Online runs on a small snapshot: repeatable, paired between contestants, reused, and made anew if damaged."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynaq.agents.arms import Arm
from dynaq.agents.stages import finetune, pretrain, split_of
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError, InputError
from dynaq.evaluation import online
from dynaq.evaluation.contestants import Contestant, contestants
from dynaq.evaluation.market.world import OWN, World, worlds
from dynaq.evaluation.online import OnlineRun, read_online, run_online
from dynaq.evaluation.panel import check_panel, make_panel, read_panel
from dynaq.evaluation.similarity import similarity_reached
from dynaq.evaluation.starts import labels_of, starting
from dynaq.mdp.environment import Observation
from dynaq.tracking.checkpoint import load_checkpoint
from tests.paths import BASE_CONFIG

SEED, STEPS, APPLICANTS = 1, 12, 10
COSINE, BASELINE = Contestant("cosine", 0.3), Contestant("baseline", 0.3)
TUNED = {"finetune.budgets": [20, 60], "finetune.applicants_per_step": 10, "agent.hand_over.pilot": 10}


def configured(workdir: Path, **changes: Any) -> Config:
    small = {
        "workdir": str(workdir),
        "agent.hidden": [32],
        "agent.learning_rate": 0.005,
        "agent.batch_size": 32,
        "compare.applicants": APPLICANTS,
        "compare.steps": STEPS,
        "compare.window": 3,
        "pretrain": {"steps": 40, "applicants_per_step": 32, "updates_per_step": 3},
        **TUNED,
    }
    return load_config(BASE_CONFIG, small | {name.replace("__", "."): value for name, value in changes.items()})


class Titles:
    """An LLM's reward that likes some jobs: known without a server."""

    name = "llm:titles"
    labels_used = 60
    classes = (1.0, 0.5, -0.1)

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        return ((jobs * 7 + applicants) % 5).float() / 4

    def cost(self) -> dict[str, int]:
        return {"tokens_of_labels": 600}

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        pass


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return configured(tmp_path_factory.mktemp("work"))


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
def panel(config: Config, small_snapshot: Snapshot) -> Path:
    llm: Any = Titles()
    return make_panel(config, small_snapshot, llm, {"who": "titles"})


@pytest.fixture(scope="module")
def checkpoint(config: Config, small_snapshot: Snapshot) -> Path:
    return pretrain(config, small_snapshot, Arm("cosine", 0.3, SEED))


@pytest.fixture(scope="module")
def tuned(config: Config, small_snapshot: Snapshot, checkpoint: Path) -> list[Path]:
    llm: Any = Titles()
    return finetune(config, small_snapshot, Arm("hybrid", 0.3, SEED), llm, 1.0)


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


def test_the_panel_is_held_out_and_says_what_every_reward_says(
    config: Config, small_snapshot: Snapshot, panel: Path
) -> None:
    split, read = split_of(config, small_snapshot), read_panel(panel)
    assert set(read.applicants) <= set(split.held_out_applicants)
    assert set(read.jobs) <= set(split.held_out_jobs)
    assert list(read.rewards) == ["cosine", "llm"]
    assert read.rewards["llm"].shape == (len(read.applicants), len(read.jobs))
    assert read.rewards["llm"][2, 3] == (read.jobs[3] * 7 + read.applicants[2]) % 5 / 4
    assert read.missing == {"cosine": 0, "llm": 0}


def test_a_missing_label_gets_the_mean_and_is_counted(small_snapshot: Snapshot, tmp_path: Path) -> None:
    class Silent(Titles):
        def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
            return torch.where(jobs % 2 == 0, torch.nan, super().__call__(applicants, jobs))

    llm: Any = Silent()
    read = read_panel(make_panel(configured(tmp_path), small_snapshot, llm, {}))
    even = read.jobs % 2 == 0
    assert read.missing["llm"] == even.sum() * len(read.applicants) > 0
    assert (read.rewards["llm"][:, even] == read.rewards["llm"][:, ~even].mean(dtype=np.float32)).all()


def test_a_run_says_who_earned_what_and_where_it_came_from(earned: dict[Contestant, OnlineRun]) -> None:
    for each, run in earned.items():
        assert (run.contestant, run.world, run.seed) == (each, World(OWN), SEED)
        assert run.rewards.shape == run.chances.shape == run.best.shape == (STEPS, APPLICANTS)
        assert run.ndcg.shape == (2, APPLICANTS)
        assert set(np.unique(run.rewards)) <= {0.0, 1.0}
        assert run.curves["reward"] == pytest.approx(run.rewards.mean(axis=1))
        assert (run.best >= run.chances - 1e-6).all()
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


def test_who_learns_from_labels_is_given_those_that_the_hybrid_paid_for(
    small_snapshot: Snapshot, tuned: list[Path], config: Config
) -> None:
    first, all_of_them = (labels_of(load_checkpoint(path, small_snapshot.manifest.digest)) for path in tuned)
    assert (len(first.jobs), len(all_of_them.jobs)) == (20, 60)
    assert torch.equal(all_of_them.jobs[:20], first.jobs)
    assert torch.equal(all_of_them.rewards, Titles()(all_of_them.applicants, all_of_them.jobs))
    assert set(all_of_them.jobs.tolist()) <= set(split_of(config, small_snapshot).training_jobs.tolist())


def test_the_control_hears_every_label_in_as_many_steps_and_updates_as_the_hybrid(
    small_snapshot: Snapshot, tmp_path: Path
) -> None:
    class Halting(Titles):
        def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
            return torch.where(jobs % 4 == 0, torch.nan, super().__call__(applicants, jobs))

    config = configured(tmp_path, agent__planning__steps=0)
    cosine, llm = pretrain(config, small_snapshot, Arm("cosine", 0.3, SEED)), Halting()
    reward: Any = llm
    *_, path = finetune(config, small_snapshot, Arm("hybrid", 0.3, SEED), reward, 0.5)
    hybrid, before = (load_checkpoint(each, small_snapshot.manifest.digest) for each in (path, cosine))
    assert len(labels_of(hybrid).jobs) < 60
    panel = read_panel(make_panel(config, small_snapshot, None, {}))
    control = starting(config, small_snapshot, panel, Contestant("no planning", 0.3, 60), SEED, path)
    assert control.before["gradient_steps"] == hybrid.manifest.gradient_steps > before.manifest.gradient_steps
    assert control.learner.earlier.size == len(labels_of(hybrid).jobs)  # type: ignore[attr-defined]
    ranker = starting(config, small_snapshot, panel, Contestant("ranker", 0.3, 60), SEED, path)
    assert ranker.provenance == ["llm:titles"]
    assert ranker.before["gradient_steps"] == ranker.learner.gradient_steps > 0  # type: ignore[attr-defined]
    assert (
        starting(config, small_snapshot, panel, Contestant("bandit", 0.3, 60), SEED, path).before["gradient_steps"] == 0
    )


def test_of_a_large_snapshot_a_sample_stands_for_the_others(
    config: Config, small_snapshot: Snapshot, panel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_panel(panel)
    online._traits.cache_clear()
    whole, *_ = online._traits(small_snapshot.path, panel)
    online._traits.cache_clear()
    monkeypatch.setattr(online, "_READ", 20)
    part, applicants, jobs = online._traits(small_snapshot.path, panel)
    online._traits.cache_clear()
    assert len(part.jobs) < len(whole.jobs) == 80
    assert np.array_equal(part.jobs.keys[jobs], whole.jobs.keys[read.jobs])
    assert np.array_equal(part.applicants.level[applicants], whole.applicants.level[read.applicants])


def test_a_champion_of_another_split_is_refused(
    config: Config, small_snapshot: Snapshot, panel: Path, tuned: list[Path]
) -> None:
    elsewhere = configured(config.work_path, split__jobs=0.5)
    with pytest.raises(ArtifactError, match="was trained on another split, perhaps on tonight's panel"):
        starting(elsewhere, small_snapshot, read_panel(panel), Contestant("champion", 0.3), SEED, tuned[1])


def test_a_champion_of_an_older_version_gets_the_knobs_it_did_not_know_and_no_others(
    config: Config, small_snapshot: Snapshot, panel: Path, tuned: list[Path], tmp_path: Path
) -> None:
    older = shutil.copytree(tuned[1], tmp_path / tuned[1].name)
    manifest = json.loads((older / "manifest.json").read_text())
    del manifest["config"]["agent"]["hand_over"]["anchor"]
    manifest["config"]["agent"]["batch_size"] = 7
    (older / "manifest.json").write_text(json.dumps(manifest))
    tonight = configured(config.work_path, agent__hand_over__anchor=17)
    begun = starting(tonight, small_snapshot, read_panel(panel), Contestant("champion", 0.3), SEED, older)
    agent: Any = begun.learner
    assert (agent.config.hand_over.anchor, agent.config.batch_size) == (17, 7)
    manifest["config"]["agent"]["telepathy"] = True
    (older / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="is of an agent that this version does not know"):
        starting(tonight, small_snapshot, read_panel(panel), Contestant("champion", 0.3), SEED, older)


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


def test_too_few_held_out_jobs_for_the_steps_are_named(small_snapshot: Snapshot, tmp_path: Path) -> None:
    config = configured(tmp_path, compare__steps=40)
    with pytest.raises(InputError, match=r"\d+ jobs are held out, too few for 40 steps without repeats"):
        check_panel(config, small_snapshot)
    with pytest.raises(InputError, match=r"\d+ jobs are held out, too few for 40 steps without repeats"):
        run_online(
            config, small_snapshot, make_panel(config, small_snapshot, None, {}), BASELINE, World(OWN), SEED, None
        )


def test_pretraining_is_warm_and_measured_once(config: Config, small_snapshot: Snapshot, checkpoint: Path) -> None:
    arm = Arm("cosine", 0.3, SEED)
    reached = similarity_reached(config, small_snapshot, arm, checkpoint)
    assert reached.best > reached.trained > reached.untrained
    assert reached.best > reached.random
    assert reached.share == pytest.approx(reached.trained / reached.best)
    assert reached.share > 0.8
    kept = checkpoint.with_name(checkpoint.name + "-similarity") / "similarity.json"
    written = kept.stat().st_mtime_ns
    assert similarity_reached(config, small_snapshot, arm, checkpoint) == reached
    assert kept.stat().st_mtime_ns == written
    kept.write_text('{"best": ')
    assert similarity_reached(config, small_snapshot, arm, checkpoint) == reached


def test_a_checkpoint_of_another_snapshot_does_not_start_a_run(
    config: Config, small_snapshot: Snapshot, panel: Path, checkpoint: Path
) -> None:
    manifest = small_snapshot.manifest.model_copy(update={"digest": "0" * 64})
    other = dataclasses.replace(small_snapshot, manifest=manifest)
    with pytest.raises(ArtifactError, match="train on this snapshot"):
        run_online(config, other, panel, COSINE, World(OWN), SEED, checkpoint)
