"""Worlds with known rewards, in which agents can be measured: a snapshot's vectors and a reward for every pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dynaq.config import LLMConfig
from dynaq.data.snapshot import Snapshot
from dynaq.llm.prompt import build_prompt
from dynaq.llm.rule_sim.applicant import answer
from dynaq.mdp.features import FeatureSpace
from dynaq.rewards.cosine import CosineReward

SET = 50  # held-out jobs that an agent chooses from


@dataclass(frozen=True)
class World:
    """Vectors, cosines and true rewards of training and held-out pairs: nobody and no job is on both sides.

    Attributes:
        train, test: vectors of either side.
        train_cosine, test_cosine: float32 [N, M] of either side.
        train_reward, test_reward: float32 [N, M], expected reward of showing job j to applicant i.
    """

    train: FeatureSpace
    test: FeatureSpace
    train_cosine: Tensor
    test_cosine: Tensor
    train_reward: Tensor
    test_reward: Tensor

    def top_1(self, scores: Tensor) -> float:
        """Reward of the best-scored of 50 held-out jobs: 0 as good as random, 1 the best possible. [N, M] -> number."""
        sets = self.test_reward.shape[1] // SET
        rewards = self.test_reward[:, : sets * SET].reshape(-1, SET)
        chosen = scores[:, : sets * SET].reshape(-1, SET).argmax(dim=1, keepdim=True)
        random, best = rewards.mean(), rewards.max(dim=1).values.mean()
        return float((rewards.gather(1, chosen).mean() - random) / (best - random))


@dataclass(frozen=True)
class Pairs:
    """A sample of a snapshot with the cosine and the true reward of every pair: [N, Ds], [M, Da], [N, M], [N, M]."""

    space: FeatureSpace
    cosine: Tensor
    reward: Tensor

    def split(self, seed: int) -> World:
        """Hold out 30% of the applicants and 30% of the jobs."""
        chance = torch.Generator().manual_seed(seed)
        sides = []
        for rows in self.reward.shape:
            order = torch.randperm(rows, generator=chance)
            sides.append((order[: round(0.7 * rows)], order[round(0.7 * rows) :]))
        (train_a, test_a), (train_j, test_j) = sides

        def part(applicants: Tensor, jobs: Tensor) -> tuple[FeatureSpace, Tensor, Tensor]:
            space = FeatureSpace(
                self.space.states[applicants], self.space.actions[jobs], self.space.pairs, self.space.d
            )
            return space, self.cosine[applicants][:, jobs], self.reward[applicants][:, jobs]

        (train, train_cosine, train_reward), (test, test_cosine, test_reward) = (
            part(train_a, train_j),
            part(test_a, test_j),
        )
        return World(train, test, train_cosine, test_cosine, train_reward, test_reward)


def sample_pairs(snapshot: Snapshot, applicants: int, jobs: int) -> tuple[FeatureSpace, Tensor, list[int], list[int]]:
    """Vectors and cosines of a fixed random sample: the space, float32 [N, M], rows of applicants and of jobs."""
    chance = np.random.default_rng(0)
    rows = chance.permutation(len(snapshot.applicants))[:applicants].tolist()
    columns = chance.permutation(len(snapshot.jobs))[:jobs].tolist()
    whole = FeatureSpace.of(snapshot)
    space = FeatureSpace(whole.states[rows], whole.actions[columns], whole.pairs, whole.d)
    cosine, there = CosineReward(snapshot), torch.tensor(columns)
    return space, torch.stack([cosine(torch.full((len(columns),), row), there) for row in rows]), rows, columns


def stand_in_pairs(snapshot: Snapshot, applicants: int, jobs: int, llm: LLMConfig, cache: Path) -> Pairs:
    """True reward: what rule-sim-v1 answers. A million answers take minutes; they are kept in a file."""
    space, cosine, rows, columns = sample_pairs(snapshot, applicants, jobs)
    file = cache / f"rule-sim-v1-{snapshot.manifest.digest[:16]}-{applicants}-{jobs}.npy"
    if not file.exists():
        values = llm.values
        rewards = np.zeros((len(rows), len(columns)), dtype=np.float32)
        for i, row in enumerate(tqdm(rows, desc="asking rule-sim-v1", unit=" applicants")):
            for j, column in enumerate(columns):
                prompt = build_prompt(snapshot.applicant_texts[row], snapshot.job_texts[column], llm.max_field_chars)
                assert prompt is not None, "the sample holds a text without a word"
                chances = answer(prompt.messages("0" * 16)[-1]["content"])
                rewards[i, j] = sum(
                    float(chances[name]) * value
                    for name, value in (("apply", values.apply), ("save", values.save), ("ignore", values.ignore))
                )
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, rewards)
    return Pairs(space, cosine, torch.from_numpy(np.load(file)))


def rule_pairs(snapshot: Snapshot, applicants: int, jobs: int, llm: LLMConfig, correlation: float, seed: int) -> Pairs:
    """True reward: a hidden rule of the vectors, correlated with the cosine as asked for.

    Utility = w z(cosine) + (1 - w) z(tastes and attractiveness); tastes are a product of tanh of random projections
    of rank 8, attractiveness is linear in the job. An ordered logit turns it into the chances of the answers.
    """
    space, cosine, _, _ = sample_pairs(snapshot, applicants, jobs)
    chance = torch.Generator().manual_seed(seed)

    def standard(x: Tensor) -> Tensor:
        return (x - x.mean()) / x.std()

    def projected(rows: Tensor, rank: int) -> Tensor:
        return standard((rows - rows.mean(0)) @ torch.randn(rows.shape[1], rank, generator=chance))

    tastes = standard(torch.tanh(projected(space.states, 8)) @ torch.tanh(projected(space.actions, 8)).T)
    hidden = standard(0.7 * tastes + 0.3 * projected(space.actions, 1).T)

    def rewards(weight: float) -> Tensor:
        utility = 2 * standard(weight * standard(cosine) + (1 - weight) * hidden)
        apply, at_least_save = torch.sigmoid(utility - 2.5), torch.sigmoid(utility - 1.5)
        values = llm.values
        return values.ignore + (values.save - values.ignore) * at_least_save + (values.apply - values.save) * apply

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        reached = torch.corrcoef(torch.stack([rewards(middle).flatten(), cosine.flatten()]))[0, 1]
        low, high = (middle, high) if reached < correlation else (low, middle)
    return Pairs(space, cosine, rewards((low + high) / 2))
