"""The two training stages before launch: pre-training on the cosine, fine-tuning on LLM feedback.

Each writes a checkpoint under a key made of all its inputs and reuses one that is already there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch

from dynaq.agents.acquisition import chooser
from dynaq.agents.arms import Arm
from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.exploration import epsilon_at
from dynaq.agents.state import learned, load_learned
from dynaq.agents.trainer import Curves, learn
from dynaq.artifacts import finished, inputs_key, training_code
from dynaq.config import Config
from dynaq.data.experiences import Experience, ExperienceStore
from dynaq.data.snapshot import Snapshot
from dynaq.data.splits import Split, stored_split
from dynaq.errors import InputError
from dynaq.mdp.candidates import CandidateSampler
from dynaq.mdp.environment import PaidEnvironment, TrainingEnvironment
from dynaq.mdp.features import FeatureSpace
from dynaq.rewards.cosine import CosineReward
from dynaq.rewards.llm_feedback import LLMFeedback
from dynaq.tracking.checkpoint import CheckpointManifest, load_checkpoint, save_checkpoint
from dynaq.tracking.progress import Progress

log = logging.getLogger(__name__)


def pretrain(config: Config, snapshot: Snapshot, arm: Arm) -> Path:
    """Train a fresh agent on the cosine reward; returns its checkpoint directory.

    The cosine and the hybrid agent start from the same one.
    """
    target = pretrained_path(config, snapshot, arm)
    if finished(target, config.work_path):
        return target
    saved = progress_of(config, target)
    with one_thread():
        agent = new_agent(config, snapshot, arm)
        environment = _environment(config, snapshot, arm, CosineReward(snapshot), config.pretrain.applicants_per_step)
        curves = learn(
            agent,
            environment,
            config.pretrain.steps,
            config.pretrain.updates_per_step,
            lambda step: epsilon_at(step, config.agent.epsilon),
            arm.seed,
            saved,
        )
    manifest = _manifest(config, snapshot, arm, "pretrain", ["cosine"], curves.gradient_steps)
    save_checkpoint(target, learned(agent), manifest, json_curves(curves))
    saved.forget()
    return target


def check_pool(config: Config, snapshot: Snapshot) -> None:
    """Raise InputError, before anything is paid for, where fewer may be trained on than are asked in a step.

    Steps are counted by the configured batch, here and in the control that replays what the hybrid has paid for.
    """
    pool, batch = len(split_of(config, snapshot).training_applicants), config.finetune.applicants_per_step
    if pool < batch:
        raise InputError(
            f"finetune.applicants_per_step is {batch}, but only {pool} applicants may be trained on: ask fewer at a"
            " step, lower split.applicants or extract more"
        )


def finetune(config: Config, snapshot: Snapshot, arm: Arm, reward: LLMFeedback, weight: float) -> list[Path]:
    """Train on LLM feedback, from scratch (``llm``) or from the cosine's weights (``hybrid``).

    Args:
        config, snapshot, arm: what is trained on what.
        reward: the labels.
        weight: how far they are trusted, in (0, 1]: the share of the configured updates that is made.

    Returns:
        Checkpoint directories, one for each of ``finetune.budgets``: an agent passes them on its way.

    Raises:
        ArtifactError: a hybrid agent finds no pre-trained checkpoint.
        InputError: there are fewer applicants than a step asks.
        LabelError, TransientError: labels cannot be had; those already paid for are stored.
    """
    stage = config.finetune
    targets = finetuned_paths(config, snapshot, arm, reward.name, weight)
    whole = [finished(target, config.work_path) for target in targets]  # each is looked at, and marked as used
    if all(whole):
        return targets
    check_pool(config, snapshot)
    saved, rewards, steps_before = progress_of(config, targets[-1]), [reward.name], 0
    with one_thread():
        agent = new_agent(config, snapshot, arm)
        if arm.agent == "hybrid":
            cosine = load_checkpoint(pretrained_path(config, snapshot, arm), snapshot.manifest.digest)
            load_learned(agent, cosine.tensors, cosine.path.name)
            rewards, steps_before = ["cosine", reward.name], cosine.manifest.gradient_steps
        agent.start_phase(reward.classes)
        # A strategy chooses among the candidates of more applicants than it asks about.
        seen = stage.applicants_per_step * (1 if stage.ask.strategy == "policy" else stage.ask.pool)
        environment = _environment(config, snapshot, arm, reward, seen, PaidEnvironment)
        asked = stage.applicants_per_step * config.agent.slate
        ends = list(accumulate((budget - before) // asked for before, budget in pairwise([0, *stage.budgets])))
        kept = saved.load()
        if kept and any(end <= int(kept["step"]) and not there for end, there in zip(ends, whole, strict=True)):
            saved.forget()  # a checkpoint on its way is damaged, and made anew

        def reached(step: int, curves: Curves) -> None:
            if step not in ends:
                return
            place = ends.index(step)
            manifest = _manifest(config, snapshot, arm, "finetune", rewards, steps_before + curves.gradient_steps)
            paid = {"labels": reward.labels_used, "cost": reward.cost()}
            manifest = manifest.model_copy(update={**paid, "config": {**manifest.config, "weight": weight}})
            save_checkpoint(targets[place], learned(agent), manifest, json_curves(curves))
            torch.manual_seed(arm.seed + stage.budgets[place])

        updates, choose = max(1, round(weight * stage.updates_per_step)), chooser(stage.ask, asked)
        learn(agent, environment, ends[-1], updates, lambda _: stage.epsilon, arm.seed, saved, choose, reached)
    saved.forget()
    return targets


def record_experience(checkpoint: Path, snapshot: Snapshot, store: ExperienceStore) -> None:
    """Write what an agent was shown and answered by the LLM to MongoDB, once however often it is called.

    Answers of the cosine and of the simulated market are not recorded: they cost nothing and are repeated at will.

    Raises:
        TransientError: MongoDB did not answer.
    """
    read = load_checkpoint(checkpoint, snapshot.manifest.digest)
    columns = [read.tensors[f"replay.{name}"].tolist() for name in ("applicants", "jobs", "rewards")]
    created = datetime.fromtimestamp((checkpoint / "manifest.json").stat().st_mtime, UTC)
    if store.count(checkpoint.name) < len(columns[0]):
        store.put(
            Experience(
                run=checkpoint.name,
                position=position,
                source=read.manifest.rewards[-1],
                arm=read.manifest.agent,
                applicant_id=snapshot.applicant_ids[applicant],
                job_id=snapshot.job_ids[job],
                reward=reward,
                created=created,
            )
            for position, (applicant, job, reward) in enumerate(zip(*columns, strict=True))
        )


def progress_of(config: Config, target: Path) -> Progress:
    """Where a stage saves itself on the way to a result."""
    return Progress(target.with_name(target.name + ".progress"), config.work_path, config.save_every_s)


def pretrained_path(config: Config, snapshot: Snapshot, arm: Arm) -> Path:
    """Where the cosine checkpoint of an arm lies, trained or not yet."""
    shared = Arm("cosine", arm.gamma, arm.seed)
    return _path(config, snapshot, shared, "pretrain", pretrain=config.pretrain.model_dump())


def finetuned_paths(config: Config, snapshot: Snapshot, arm: Arm, reward: str, weight: float) -> list[Path]:
    """Where the checkpoints of all budgets lie, in their order."""
    return [finetuned_path(config, snapshot, arm, reward, weight, budget) for budget in config.finetune.budgets]


def finetuned_path(
    config: Config, snapshot: Snapshot, arm: Arm, reward: str, weight: float, budget: int | None = None
) -> Path:
    """Where a fine-tuned checkpoint of an arm lies, trained or not yet.

    Args:
        config, snapshot, arm: what is trained on what.
        reward: names the labels' provenance.
        weight: how far they are trusted.
        budget: one of ``finetune.budgets``; the largest if not given.
    """
    asked = {"answer", "values", "revision", "temperature", "samples", "max_field_chars", "max_missing_share"}
    inputs: dict[str, Any] = {
        "finetune": config.finetune.model_dump(),
        "llm": config.llm.model_dump(include=asked),  # the rest is how, not what
        "weight": weight,
        "budget": budget or config.finetune.labels,
    }
    if arm.agent == "hybrid":
        inputs["pretrain"] = config.pretrain.model_dump()
    return _path(config, snapshot, arm, "finetune", reward=reward, **inputs)


def _path(config: Config, snapshot: Snapshot, arm: Arm, stage: str, **inputs: Any) -> Path:
    key = inputs_key(
        snapshot=snapshot.manifest.digest,
        arm=arm.name,
        agent=_agent_config(config, arm),
        split=config.split.model_dump(),
        seed_of_split=config.seed,
        fresh=config.fresh,
        code=training_code(),
        **inputs,
    )
    return config.work_path / "checkpoints" / f"{stage}-{arm.name}-{key}"


def _agent_config(config: Config, arm: Arm) -> dict[str, Any]:
    return config.agent.model_dump() | {"gamma": arm.gamma}


def _manifest(
    config: Config, snapshot: Snapshot, arm: Arm, stage: str, rewards: list[str], gradient_steps: int
) -> CheckpointManifest:
    sections = {name: getattr(config, name).model_dump() for name in ("split", "pretrain", "finetune", "llm")}
    return CheckpointManifest(
        stage=stage,
        agent=arm.agent,
        gamma=arm.gamma,
        seed=arm.seed,
        snapshot=snapshot.manifest.digest,
        rewards=rewards,
        labels=0,
        cost={},
        gradient_steps=gradient_steps,
        config={"agent": _agent_config(config, arm), "seed_of_split": config.seed, **sections},
    )


def new_agent(config: Config, snapshot: Snapshot, arm: Arm, kind: type[DynaQ] = DynaQ) -> DynaQ:
    """An untrained agent of an arm. Arms of one seed start from the same weights, whatever their warm start."""
    agent_config = config.agent.model_copy(update={"gamma": arm.gamma})
    return kind(FeatureSpace.of(snapshot), agent_config, _sampler(config, snapshot), arm.seed)


def split_of(config: Config, snapshot: Snapshot) -> Split:
    """Who and what is trained on, and what is held out for the comparison."""
    shares = config.split.applicants, config.split.jobs
    return stored_split(snapshot, *shares, config.seed, config.work_path, config.fresh)


def _sampler(config: Config, snapshot: Snapshot) -> CandidateSampler:
    """Candidates among the jobs that are trained on."""
    jobs = torch.from_numpy(split_of(config, snapshot).training_jobs)
    return CandidateSampler(len(jobs), config.agent.candidates, jobs)


def _environment(
    config: Config,
    snapshot: Snapshot,
    arm: Arm,
    reward: CosineReward | LLMFeedback,
    count: int,
    kind: type[TrainingEnvironment] = TrainingEnvironment,
) -> TrainingEnvironment:
    pool = torch.from_numpy(split_of(config, snapshot).training_applicants)
    generator = torch.Generator().manual_seed(arm.seed + 1_000_003)
    return kind(reward, pool, count, _sampler(config, snapshot), generator)


def json_curves(curves: Curves) -> dict[str, list[float | None]]:
    """Curves as JSON holds them: what is no finite number becomes None."""
    return {name: [v if math.isfinite(v) else None for v in values.tolist()] for name, values in curves.values.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: sums then come out the same however many processes share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
