"""How each contestant starts: with the weights, or the labels, that it has before launch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from dynaq.agents.arms import WARM_STARTS, Arm
from dynaq.agents.controls.linear_bandit import LinearBandit
from dynaq.agents.controls.popularity import Popularity
from dynaq.agents.controls.random_choice import RandomChoice
from dynaq.agents.controls.ranker import SupervisedRanker
from dynaq.agents.controls.raw_cosine import RawCosine
from dynaq.agents.controls.replay import ReplayAgent
from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.learner import Learner
from dynaq.agents.stages import new_agent, pretrained_path
from dynaq.agents.state import load_learned
from dynaq.agents.trainer import learn
from dynaq.config import AgentConfig, Config
from dynaq.config_file import merged
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.environment import INTERACTION, OnlineEnvironment
from dynaq.evaluation.panel import Panel, PanelReward
from dynaq.mdp.candidates import CandidateSampler
from dynaq.mdp.environment import Observation
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.replay import ReplayBuffer
from dynaq.rewards.cosine import CosineReward
from dynaq.tracking.checkpoint import Checkpoint, load_checkpoint


@dataclass(frozen=True)
class Start:
    """A contestant ready for launch.

    Attributes:
        learner: itself.
        before: what it took: distinct paid ``labels``, ``tokens`` and ``gradient_steps``.
        provenance: rewards it has learned from, in order.
        checkpoint: name of the one it started from, or whose labels it learned from.
    """

    learner: Learner
    before: dict[str, int]
    provenance: list[str]
    checkpoint: str | None


@dataclass(frozen=True)
class Labels:
    """Pairs that were paid for, in the order they were: int64 [L], [L], float32 [L]."""

    applicants: Tensor
    jobs: Tensor
    rewards: Tensor


def starting(
    config: Config,
    snapshot: Snapshot,
    panel: Panel,
    contestant: Contestant,
    seed: int,
    checkpoint: Path | None,
    environment: OnlineEnvironment | None = None,
) -> Start:
    """Make a contestant that is about to meet the market, which it has never seen.

    Args:
        config, snapshot, panel: of the night; candidates will be jobs of the panel.
        contestant, seed: who.
        checkpoint: what it starts from, or whose labels it learns from.
        environment: needed by the optimum only.

    Raises:
        ArtifactError: its checkpoint is missing, damaged, or of another snapshot.
    """
    # A champion may come from an earlier snapshot: its weights are about vectors, not rows.
    contends = contestant.kind in ("champion", "challenger")
    digest = None if contends else snapshot.manifest.digest
    read = load_checkpoint(checkpoint, digest) if checkpoint else None
    if contends or contestant.kind in WARM_STARTS:
        agent, steps = _agent(config, snapshot, contestant, seed, read), None
    elif contestant.kind == "no planning":
        agent, steps = _without_planning(config, snapshot, contestant, seed, _present(read))
    else:
        return _policy(config, snapshot, panel, contestant, seed, read, environment)
    agent.sampler = CandidateSampler(len(panel.jobs), config.agent.candidates, torch.from_numpy(panel.jobs))
    agent.start_phase(INTERACTION)
    if contends:  # what it heard before is about rows; neither of the two keeps it
        agent.earlier = ReplayBuffer(agent.config.replay.capacity)
    return _start(agent, read, steps)


def _agent(config: Config, snapshot: Snapshot, contestant: Contestant, seed: int, read: Checkpoint | None) -> DynaQ:
    """A Dyna-Q agent with the weights of its checkpoint, if it has any."""
    gamma = contestant.gamma
    if contestant.kind in ("champion", "challenger"):  # whatever tonight's configuration is
        trained = _trained_as(_present(read), config)
        config, gamma = config.model_copy(update={"agent": trained}), trained.gamma
    agent = new_agent(config, snapshot, Arm("hybrid", gamma, seed))
    if read:
        load_learned(agent, read.tensors, read.path.name)
    return agent


def _without_planning(
    config: Config, snapshot: Snapshot, contestant: Contestant, seed: int, read: Checkpoint
) -> tuple[DynaQ, int]:
    """The hybrid on the very labels that it has paid for, replaying them as often as it would have imagined others.

    Returns it and its gradient steps before launch.
    """
    arm, labels = Arm("hybrid", contestant.gamma, seed), labels_of(read)
    agent = new_agent(config, snapshot, arm, ReplayAgent)
    cosine = load_checkpoint(pretrained_path(config, snapshot, arm), snapshot.manifest.digest)
    load_learned(agent, cosine.tensors, cosine.path.name)
    values, stage = config.llm.values, config.finetune
    agent.start_phase((values.apply, values.save, values.ignore))
    steps = contestant.labels // (stage.applicants_per_step * config.agent.slate)  # as many as the hybrid has made
    updates = max(1, round(read.manifest.config["weight"] * stage.updates_per_step))
    curves = learn(agent, _Recorded(labels, steps), steps, updates, lambda _: 0.0, seed)
    return agent, cosine.manifest.gradient_steps + curves.gradient_steps


def _policy(
    config: Config,
    snapshot: Snapshot,
    panel: Panel,
    contestant: Contestant,
    seed: int,
    read: Checkpoint | None,
    environment: OnlineEnvironment | None,
) -> Start:
    """Controls that are no Dyna-Q agents."""
    k, space = config.agent.slate, FeatureSpace.of(snapshot)
    learner: Learner
    match contestant.kind:
        case "optimum":
            assert environment is not None, "the optimum is one of a market"
            learner = Optimum(environment)
        case "random":
            learner = RandomChoice(k, seed)
        case "popularity":
            learner = Popularity(len(space.states), len(space.actions), k, seed)
        case "raw cosine":
            # In the market only pairs of the panel come up, and the panel has their cosines.
            learner = RawCosine(PanelReward(panel, "cosine") if environment else CosineReward(snapshot), k, seed)
        case "bandit":
            learner = LinearBandit(space, k, seed)
        case _:
            learner = SupervisedRanker(space, k, seed)
    if not isinstance(learner, LinearBandit | SupervisedRanker) or read is None:
        return _start(learner, read)
    labels = labels_of(read)
    learner.learn_labels(labels.applicants, labels.jobs, labels.rewards)
    steps = learner.gradient_steps if isinstance(learner, SupervisedRanker) else 0
    return _start(learner, read, steps, read.manifest.rewards[-1])


class Optimum(RandomChoice):
    """Shows the best slate of the candidates offered, which only the market knows."""

    def __init__(self, environment: OnlineEnvironment) -> None:
        """No chance is involved."""
        super().__init__(1, 0)
        self._environment = environment

    def act(self, applicants: Tensor, candidates: Tensor, epsilon: float) -> Tensor:
        """The market's own answer, without exploration."""
        return self._environment.best_slates()

    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """The chances while nobody is tired; of all the market's applicants."""
        return torch.from_numpy(self._environment.chances_at_rest(jobs))


class _Recorded:
    """Labels met again in the order they were paid for, each the only candidate of its applicant.

    All of them, over the steps: where some answers were missing, a step has fewer.
    """

    def __init__(self, labels: Labels, steps: int) -> None:
        self._labels, self._rows = labels, torch.arange(len(labels.jobs)).tensor_split(steps)

    def observe(self, step: int) -> Observation:
        rows = self._rows[step]
        return Observation(self._labels.applicants[rows], self._labels.jobs[rows, None])

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        return self._labels.rewards[self._rows[step]]

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        pass


def labels_of(checkpoint: Checkpoint) -> Labels:
    """The answers that a fine-tuned agent has heard, in order."""
    replay = {name.removeprefix("replay."): t for name, t in checkpoint.tensors.items() if name.startswith("replay.")}
    buffer = ReplayBuffer(int(replay["counters"][0]))
    buffer.load(replay)
    kept = buffer.newest(buffer.size)
    return Labels(kept.applicants, kept.jobs, kept.rewards)


def _trained_as(read: Checkpoint, config: Config) -> AgentConfig:
    """How a checkpoint's agent was configured, but for what tonight's market decides and its version did not know.

    Raises:
        ArtifactError: the configuration is of another version, or the split was another: it may have been trained on
            who is held out tonight.
    """
    given = read.manifest.config
    if (given.get("split"), given.get("seed_of_split")) != (config.split.model_dump(), config.seed):
        raise ArtifactError(f"checkpoint {read.path.name} was trained on another split, perhaps on tonight's panel")
    try:
        trained = AgentConfig.model_validate(merged(config.agent.model_dump(), given["agent"]))
    except ValidationError:
        raise ArtifactError(f"checkpoint {read.path.name} is of an agent that this version does not know") from None
    return trained.model_copy(update={"slate": config.agent.slate, "candidates": config.agent.candidates})


def _present(read: Checkpoint | None) -> Checkpoint:
    if read is None:
        raise ArtifactError("a contestant that builds on a checkpoint was given none: run the finetune flow first")
    return read


def _start(learner: Learner, read: Checkpoint | None, steps: int | None = None, taught: str | None = None) -> Start:
    """``steps`` and ``taught`` where they are not those of the checkpoint: gradient steps, and the one reward."""
    if read is None:
        return Start(learner, {"labels": 0, "tokens": 0, "gradient_steps": 0}, [], None)
    tokens = read.manifest.cost.get("tokens_of_labels", 0)
    steps = read.manifest.gradient_steps if steps is None else steps
    before = {"labels": read.manifest.labels, "tokens": tokens, "gradient_steps": steps}
    return Start(learner, before, [taught] if taught else read.manifest.rewards, read.path.name)
