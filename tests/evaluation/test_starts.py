"""How contestants start: with whose weights and labels, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dynaq.agents.arms import Arm
from dynaq.agents.stages import finetune, pretrain, split_of
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.online import run_online
from dynaq.evaluation.panel import make_panel, read_panel
from dynaq.evaluation.similarity import similarity_reached
from dynaq.evaluation.starts import labels_of, starting
from dynaq.tracking.checkpoint import load_checkpoint
from tests.evaluation.online_toys import BASELINE, COSINE, SEED, Titles, configured


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


def test_a_champion_of_another_split_is_refused(
    config: Config, small_snapshot: Snapshot, panel: Path, tuned: list[Path]
) -> None:
    elsewhere = configured(config.work_path, split__jobs=0.5)
    with pytest.raises(ArtifactError, match="was trained on another split, perhaps on tonight's panel"):
        starting(elsewhere, small_snapshot, read_panel(panel), Contestant("champion", 0.3), SEED, tuned[1])


def test_what_a_champion_heard_is_about_rows_of_another_snapshot(
    small_snapshot: Snapshot, panel: Path, tuned: list[Path], config: Config
) -> None:
    replaying = configured(config.work_path, agent__hand_over__earlier=500)
    for kind, kept in (("hybrid", 60), ("challenger", 0), ("champion", 0)):
        each = Contestant(kind, 0.3, 60 if kind == "hybrid" else 0)
        agent: Any = starting(replaying, small_snapshot, read_panel(panel), each, SEED, tuned[1]).learner
        assert agent.earlier.size == kept


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


def test_the_baseline_starts_from_other_weights_in_each_market(
    config: Config, small_snapshot: Snapshot, panel: Path
) -> None:
    agents: list[Any] = [
        starting(config, small_snapshot, read_panel(panel), BASELINE, seed, None).learner for seed in (5, 5, 6)
    ]
    one, same, other = (torch.cat([weights.flatten() for weights in agent.q.parameters()]) for agent in agents)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
