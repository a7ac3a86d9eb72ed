"""Training stages: what they learn from, what they start from, what names their results, and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dynaq.agents import stages
from dynaq.agents.arms import Arm, arms
from dynaq.agents.state import learned, load_learned
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError, InputError
from dynaq.tracking.checkpoint import load_checkpoint
from tests.paths import BASE_CONFIG

COSINE, LLM, HYBRID = (Arm(agent, 0.3, 1) for agent in ("cosine", "llm", "hybrid"))


class SilentApplicant:
    """A reward source that is asked and never answers: every label is missing."""

    name = "llm:silent"
    labels_used = 0
    classes = (1.0, 0.5, -0.1)

    def __init__(self) -> None:
        self.asked: set[int] = set()
        self.shown: set[int] = set()

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        self.asked |= set(applicants.tolist())
        self.shown |= set(jobs.tolist())
        return torch.full((len(applicants),), float("nan"))

    def cost(self) -> dict[str, int]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        pass


def small_config(workdir: Path, **changes: Any) -> Config:
    quick = {"workdir": str(workdir), "agent.hidden": [32], "pretrain.steps": 5, "finetune.budgets": [50, 300]}
    return load_config(BASE_CONFIG, quick | changes)


def test_training_never_meets_who_or_what_is_held_out(small_snapshot: Snapshot, tmp_path: Path) -> None:
    config = small_config(tmp_path)
    reward: Any = SilentApplicant()
    stages.finetune(config, small_snapshot, LLM, reward, 1.0)
    split = stages.split_of(config, small_snapshot)
    assert reward.asked == set(split.training_applicants.tolist())
    assert reward.shown <= set(split.training_jobs.tolist())
    assert len(reward.shown) > 30


def test_hybrid_starts_from_the_cosine_and_llm_from_nothing(small_snapshot: Snapshot, tmp_path: Path) -> None:
    """Nothing is learned where no answer comes, so the checkpoints show what they started from."""
    config, reward, digest = small_config(tmp_path), SilentApplicant(), small_snapshot.manifest.digest
    silent: Any = reward
    with pytest.raises(ArtifactError, match="no checkpoint"):
        stages.finetune(config, small_snapshot, HYBRID, silent, 1.0)
    cosine = load_checkpoint(stages.pretrain(config, small_snapshot, COSINE), digest)
    hybrid = load_checkpoint(stages.finetune(config, small_snapshot, HYBRID, silent, 1.0)[-1], digest)
    llm = load_checkpoint(stages.finetune(config, small_snapshot, LLM, silent, 1.0)[-1], digest)
    fresh = learned(stages.new_agent(config, small_snapshot, LLM))
    networks = [name for name in fresh if name.startswith("q.")]
    assert all(torch.equal(hybrid.tensors[name], cosine.tensors[name]) for name in networks)
    assert all(torch.equal(llm.tensors[name], fresh[name]) for name in networks)
    assert not torch.equal(cosine.tensors["q.first.weight"], fresh["q.first.weight"])
    assert (hybrid.manifest.rewards, llm.manifest.rewards) == (["cosine", "llm:silent"], ["llm:silent"])


def leaves(tree: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found = []
    for key, value in tree.items():
        name = f"{prefix}.{key}"
        found += leaves(value, name) if isinstance(value, dict) else [(name, value)]
    return found


def other(value: Any) -> Any:
    """A valid value that differs."""
    if isinstance(value, list):
        return [*value, 8]
    if isinstance(value, str):
        return {"product": "concat", "bellman": "double"}[value]
    if value is None:
        return 0.75
    return value + 1 if isinstance(value, int) else value / 2 + 0.01


def test_every_knob_of_training_is_in_the_name_of_its_result(small_snapshot: Snapshot, tmp_path: Path) -> None:
    """A result of other inputs is never taken for this one; gamma is in the arm, and the shares move the split."""
    config = small_config(tmp_path)
    before = stages.pretrained_path(config, small_snapshot, COSINE)
    knobs = [("seed", 0)]
    for section in ("agent", "pretrain", "split"):
        knobs += leaves(getattr(config, section).model_dump(), section)
    assert len(knobs) > 18
    for knob, value in knobs:
        if knob not in ("agent.gamma", "agent.history"):
            heard_out = {"finetune.budgets": [150]} if knob == "agent.hand_over.earlier" else {}
            changed = small_config(tmp_path, **{knob: other(value)}, **heard_out)
            assert stages.pretrained_path(changed, small_snapshot, COSINE) != before, knob
    assert stages.pretrained_path(small_config(tmp_path, fresh="again"), small_snapshot, COSINE) != before
    remembering = {"agent.history": {"length": 4, "width": 8, "blocks": 1, "heads": 2}}
    assert stages.pretrained_path(small_config(tmp_path, **remembering), small_snapshot, COSINE) != before
    for irrelevant in ({"compare.steps": 11}, {"processes": 1}, {"finetune.budgets": [150]}):
        assert stages.pretrained_path(small_config(tmp_path, **irrelevant), small_snapshot, COSINE) == before
    hybrid = stages.finetuned_path(config, small_snapshot, HYBRID, "llm:a", 1.0)
    assert stages.finetuned_path(config, small_snapshot, HYBRID, "llm:b", 1.0) != hybrid
    assert stages.finetuned_path(config, small_snapshot, HYBRID, "llm:a", 0.5) != hybrid
    knobs = {"llm.values.save": 0.4, "finetune.budgets": [150], "pretrain.steps": 6, "llm.temperature": 1.0}
    for knob in ({name: value} for name, value in knobs.items()):
        assert stages.finetuned_path(small_config(tmp_path, **knob), small_snapshot, HYBRID, "llm:a", 1.0) != hybrid


def test_a_damaged_checkpoint_is_set_aside_and_trained_again(small_snapshot: Snapshot, tmp_path: Path) -> None:
    config, silent = small_config(tmp_path), SilentApplicant()
    reward: Any = silent
    cosine = stages.pretrain(config, small_snapshot, COSINE)
    first, last = stages.finetune(config, small_snapshot, LLM, reward, 1.0)
    before = {path: (path / "weights.safetensors").read_bytes() for path in (cosine, first, last)}
    for path in (cosine, first):
        content = bytearray(before[path])
        content[len(content) // 2] ^= 1
        (path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"weights.safetensors is damaged: run the flow that trains it \(pretrain"):
        load_checkpoint(cosine, small_snapshot.manifest.digest)
    assert stages.pretrain(config, small_snapshot, COSINE) == cosine
    assert stages.finetune(config, small_snapshot, LLM, reward, 1.0) == [first, last]
    assert {path: (path / "weights.safetensors").read_bytes() for path in before} == before
    aside = sorted(each.name.rsplit("-", 3)[0] for each in (tmp_path / "damaged").iterdir())
    assert aside == sorted([cosine.name, first.name])


def test_checkpoint_of_other_layers_is_refused(small_snapshot: Snapshot, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(
        stages.pretrain(small_config(tmp_path), small_snapshot, COSINE), small_snapshot.manifest.digest
    )
    wider = stages.new_agent(small_config(tmp_path, **{"agent.hidden": [64]}), small_snapshot, COSINE)
    with pytest.raises(ArtifactError, match="other layers"):
        load_learned(wider, checkpoint.tensors, checkpoint.path.name)


def test_gamma_zero_always_runs_beside_the_configured_one(tmp_path: Path) -> None:
    config = small_config(tmp_path, **{"compare.seeds": 2, "seed": 7})
    assert [arm.name for arm in arms(config, "llm")] == ["llm-g0.3-s7", "llm-g0.3-s8", "llm-g0-s7", "llm-g0-s8"]
    assert len(arms(small_config(tmp_path, **{"agent.gamma": 0.0}), "llm")) == 5


class PayingApplicant(SilentApplicant):
    """Answers everything, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[int, int]] = []

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        super().__call__(applicants, jobs)
        self.pairs += zip(applicants.tolist(), jobs.tolist(), strict=True)
        return (jobs % 3).float() / 2


@pytest.mark.parametrize("strategy", ["uniform", "top_q", "uncertainty", "mixed"])
def test_a_strategy_asks_as_often_as_the_budget_says_and_nothing_twice(
    small_snapshot: Snapshot, tmp_path: Path, strategy: str
) -> None:
    config = small_config(tmp_path, **{"finetune.ask.strategy": strategy, "finetune.applicants_per_step": 10})
    reward: Any = PayingApplicant()
    stages.finetune(config, small_snapshot, LLM, reward, 1.0)
    assert len(reward.pairs) == len(set(reward.pairs)) == 300
    split = stages.split_of(config, small_snapshot)
    assert {row for row, _ in reward.pairs} <= set(split.training_applicants.tolist())
    assert {row for _, row in reward.pairs} <= set(split.training_jobs.tolist())


def test_fewer_applicants_than_are_asked_in_a_step_are_refused_before_any_is_asked(
    small_snapshot: Snapshot, tmp_path: Path
) -> None:
    reward: Any = SilentApplicant()
    config = small_config(tmp_path, **{"finetune.applicants_per_step": 50})
    with pytest.raises(InputError, match=r"applicants_per_step is 50, but only \d+ applicants may be trained on"):
        stages.finetune(config, small_snapshot, LLM, reward, 1.0)
    assert not reward.asked
