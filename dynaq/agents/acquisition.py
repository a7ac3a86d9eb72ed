"""Which pairs to ask about: answers of an LLM cost money, and an agent need not ask for what it would show.

``policy`` asks about what the agent shows. The other strategies choose among the candidates of more applicants than
there are questions, each by a value of every pair; none asks one agent the same pair twice, or one applicant about
more than a few jobs at once. A share of their questions is drawn at random, before any other: what is sought out is
no sample of the catalogue, and the world model's skill must be measured on one.

Nothing is remembered here: what was answered is in the agent's replay, chance is the agent's generator, so that an
interrupted agent goes on with the same questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.learner import Learner
from dynaq.config import AskConfig
from dynaq.mdp.environment import Observation


@dataclass(frozen=True)
class Questions:
    """Pairs to be answered.

    Attributes:
        applicants, jobs: int64 [L].
        uniform: bool [L], those drawn at random whatever the strategy; None where that is not told apart.
    """

    applicants: Tensor
    jobs: Tensor
    uniform: Tensor | None = None


Choose = Callable[[Learner, Observation, float], Questions]  # an agent, what it sees, its exploration rate


def policy(agent: Learner, seen: Observation, epsilon: float) -> Questions:
    """Ask about the slates that the agent would show, epsilon-greedily."""
    slates = agent.act(seen.applicants, seen.candidates, epsilon)
    return Questions(seen.applicants.repeat_interleave(slates.shape[1]), slates.flatten())


def chooser(config: AskConfig, count: int) -> Choose:
    """The chooser of a strategy.

    Args:
        config: the strategy.
        count: questions at a step; fewer are asked where there are no more pairs. ``policy`` asks one slate of each
            applicant it sees.
    """
    if config.strategy == "policy":
        return policy

    def choose(agent: Learner, seen: Observation, _: float) -> Questions:
        assert isinstance(agent, DynaQ), "a strategy looks into the world model"
        width = seen.candidates.shape[1]
        barred = answered(agent, seen)
        left = torch.full((len(barred),), config.per_applicant)
        share = 1.0 if config.strategy == "uniform" else config.uniform_share
        drawn = int(share * count + torch.rand((), generator=agent.generator).item())
        lottery = torch.rand(barred.shape, generator=agent.generator)
        places = random = highest(lottery.masked_fill(barred, -torch.inf), drawn, left)
        if drawn < count:
            barred.view(-1)[random] = True
            left -= torch.bincount(random // width, minlength=len(left))
            worth = _worth(config.strategy, agent, seen).masked_fill(barred, -torch.inf)
            if config.strategy == "mixed":
                vectors = agent.world_model.directions(seen.candidates.flatten())
                sought = spread(worth, vectors, count - drawn, left, random)
            else:
                sought = highest(worth, count - drawn, left)
            places = torch.cat([random, sought])
        applicants, jobs = seen.applicants[places // width], seen.candidates.flatten()[places]
        return Questions(applicants, jobs, torch.arange(len(places)) < len(random))

    return choose


def _worth(strategy: str, agent: DynaQ, seen: Observation) -> Tensor:
    """What a strategy makes of each pair in view: float [B, n], not negative but for ``top_q``."""
    scores, slate = agent.scores(seen.applicants, seen.candidates), agent.config.slate
    shown = chance_of_top(scores[:, :, None], slate)
    if agent.piloting or not agent.answers:
        # Heads that have learned nothing agree, and a pilot is to tell what the network's best is worth, of anyone.
        return shown * torch.rand(scores.shape, generator=agent.generator)
    if strategy == "top_q":
        return scores
    predicted = agent.predict(seen.applicants, seen.candidates)
    disagreement = predicted.disagreement.view(scores.shape)
    if strategy == "uncertainty":
        return disagreement
    return disagreement * (shown + chance_of_top(predicted.heads.view(*scores.shape, -1), slate)) / 2


def answered(agent: DynaQ, seen: Observation) -> Tensor:
    """The pairs in view that the agent has an answer to, as far back as its replay reaches: bool [B, n]."""
    past, jobs = agent.replay.newest(agent.replay.size), len(agent.space.actions)
    return torch.isin(seen.applicants[:, None] * jobs + seen.candidates, past.applicants * jobs + past.jobs)


def chance_of_top(voters: Tensor, k: int) -> Tensor:
    """Share of the voters that rank a candidate among the applicant's k best: float [B, n, V] -> [B, n].

    Heads fitted to bootstrap samples stand for draws from a posterior (Osband & Van Roy 2015), so this is the chance
    with which Thompson sampling would show the candidate. Candidates that none would show are not worth a question,
    however unsure their reward is.
    """
    votes = torch.zeros_like(voters).scatter(1, voters.topk(min(k, voters.shape[1]), dim=1).indices, 1.0)
    return votes.mean(dim=2)


def highest(values: Tensor, count: int, left: Tensor) -> Tensor:
    """The highest of a matrix: float [B, n] -> int64 [at most count], places in the flattened matrix, best first.

    Args:
        values: -inf is never chosen.
        count: how many.
        left: int64 [B], most in each row.
    """
    most = min(max(int(left.max()), 1), values.shape[1])
    best, columns = values.topk(most, dim=1)
    best = best.masked_fill(torch.arange(most) >= left[:, None], -torch.inf).flatten()
    order = best.argsort(descending=True, stable=True)[:count]
    order = order[best[order] > -torch.inf]
    return order // most * values.shape[1] + columns.flatten()[order]


def spread(quality: Tensor, vectors: Tensor, count: int, left: Tensor, already: Tensor) -> Tensor:
    """As ``highest``, one after the other, each discounted by how like the nearest chosen job its own is.

    The questions of a step are asked together: the second of two that are alike would mostly repeat what the first
    one says. Farthest-point choice (Gonzalez 1985), weighted; a job already chosen in this step counts for nothing.

    Args:
        quality: float [B, n], not negative; -inf is never chosen.
        vectors: float [B * n, D], the jobs' directions, of length 1.
        count: how many.
        left: int64 [B], most in each row.
        already: int64, places chosen before.
    """
    left, values = left.clone(), quality.masked_fill(left[:, None] <= 0, -torch.inf)
    barred, room = values.isneginf(), torch.ones(values.numel())
    for place in already:
        room = torch.minimum(room, 1 - vectors @ vectors[place])
    chosen: list[Tensor] = []
    for _ in range(count):
        worth = quality.flatten() * room.clamp(min=0)
        place = worth.masked_fill(barred.flatten(), -torch.inf).argmax()
        row = int(place) // quality.shape[1]
        if barred.view(-1)[place]:
            break  # nothing is left
        chosen.append(place)
        left[row] -= 1
        barred.view(-1)[place] = True
        barred[row] |= left[row] <= 0
        room = torch.minimum(room, 1 - vectors @ vectors[place])
    return torch.stack(chosen) if chosen else torch.empty(0, dtype=torch.int64)
