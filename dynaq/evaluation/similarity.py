"""Did pre-training work: the cosine that greedy recommendations reach, as a share of the best possible."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from dynaq.agents.arms import Arm
from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.stages import new_agent, one_thread, split_of
from dynaq.agents.state import load_learned
from dynaq.artifacts import finished, publish, readable
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.mdp.candidates import CandidateSampler
from dynaq.protocols import Recommender
from dynaq.rewards.cosine import CosineReward
from dynaq.tracking.checkpoint import load_checkpoint

_APPLICANTS = 1000  # at most so many held-out applicants, each with one candidate set
_SEED = 20_250_101  # of the candidate sets: the same for every agent


@dataclass(frozen=True)
class SimilarityReached:
    """Mean cosine of the held-out job chosen for held-out applicants, among the same candidates.

    Attributes:
        best: of the most similar candidate.
        trained, untrained: of the candidate that the greedy agent prefers, after and before training.
        random: of a candidate drawn at random.
        applicants: how many held-out applicants were asked.
    """

    best: float
    trained: float
    untrained: float
    random: float
    applicants: int

    @property
    def share(self) -> float:
        """Trained over best."""
        return self.trained / self.best


def similarity_reached(config: Config, snapshot: Snapshot, arm: Arm, checkpoint: Path) -> SimilarityReached:
    """Measure a pre-trained checkpoint on applicants it has never seen; the result is kept beside it."""
    target = checkpoint.with_name(checkpoint.name + "-similarity")
    if not finished(target, config.work_path):
        start = load_checkpoint(checkpoint, snapshot.manifest.digest)
        with one_thread():
            untrained = new_agent(config, snapshot, arm)
            trained = new_agent(config, snapshot, arm)
            load_learned(trained, start.tensors, start.path.name)
            measured = _measure(config, snapshot, trained, untrained)
        with publish(target) as directory:
            (directory / "similarity.json").write_text(json.dumps(asdict(measured)) + "\n")
    with readable("similarity", target):
        return SimilarityReached(**json.loads((target / "similarity.json").read_text()))


def _measure(config: Config, snapshot: Snapshot, trained: DynaQ, untrained: DynaQ) -> SimilarityReached:
    split = split_of(config, snapshot)
    applicants = torch.from_numpy(split.held_out_applicants[:_APPLICANTS])
    jobs = torch.from_numpy(split.held_out_jobs)
    sampler = CandidateSampler(len(jobs), config.agent.candidates, jobs)
    candidates = sampler.draw(torch.arange(len(applicants)) * 7919 + _SEED)
    n = candidates.shape[1]
    cosine = CosineReward(snapshot)(applicants.repeat_interleave(n), candidates.flatten()).reshape(-1, n)

    def reached(agent: Recommender) -> float:
        choice = agent.scores(applicants, candidates).argmax(dim=1, keepdim=True)
        return cosine.gather(1, choice).mean().item()

    return SimilarityReached(
        best=cosine.max(dim=1).values.mean().item(),
        trained=reached(trained),
        untrained=reached(untrained),
        random=cosine.mean().item(),
        applicants=len(applicants),
    )
