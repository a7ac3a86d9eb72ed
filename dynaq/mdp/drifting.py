"""A market in which history matters: interests drift towards jobs answered well, and more of the same bores.

Every applicant i has a hidden interest z and every job j a hidden kind y, both of length 1 in KINDS dimensions: one
random projection for each pair of compared fields, added up. To be shown job j is worth

    u = z . y_j - fatigue * (share of the last RECENT jobs shown that felt the same, max(0, y . y_j)^SAMENESS)

and the answer is an ordered logit: apply or save where u plus logistic noise exceeds a threshold, else ignore. An
answer above 0 pulls the interest towards the job,

    z <- normalise((1 - w) z + w y_j)    with w = drift * answer / best answer

With drift = fatigue = 0 this is a static market of the same utilities. They resemble the cosine of the vectors
without being it, and a small network learns them from some thousand answers. The environment is no judge of agents:
it reads the vectors that they read. It is there to show what a state with a memory is good for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dynaq.config import LabelValues
from dynaq.errors import InputError
from dynaq.mdp.candidates import CandidateSampler, mix
from dynaq.mdp.environment import Observation
from dynaq.mdp.features import FeatureSpace

KINDS = 8
RECENT = 5  # jobs shown lately that may bore
SAMENESS = 4  # a power: it takes a near copy to bore, or there would be nothing better to show
SAVE_SHARE, APPLY_SHARE = 0.2, 0.1  # of random pairs that lie above the thresholds before anything moved
TEMPERATURE = 0.1  # of the answers, in the unit of the utility
REFERENCE = 10_000  # random pairs on which the thresholds are measured

# What a draw is for.
_ANSWER, _CANDIDATES, _APPLICANTS, _MARKET = range(4)


class DriftingEnvironment:
    """An `Environment` with a memory of its own: each call of `rewards` moves the applicants it is called for.

    Applicants, candidates and luck are hashes of (seed, step, applicant, job), so that agents compared on the same seed
    meet the same ones, whatever each of them did before.

    Args:
        space: vectors of applicants and jobs, with at least one pair of compared fields.
        pool: int64, rows of the applicants that may arrive.
        applicants_per_step: how many arrive at once; the whole pool if it holds fewer.
        candidates: jobs to choose from.
        values: rewards of the answers.
        drift: 0 to 1, how far an applied-to job pulls the interest towards itself.
        fatigue: 0 or more, how much jobs like those shown lately lose.
        no_repeats: a job applied to is no candidate any more.
        seed: decides tastes, arrivals, candidates and luck.

    Raises:
        InputError: a number is out of range, the rewards are not ordered, or nothing can be compared.
    """

    def __init__(
        self,
        space: FeatureSpace,
        pool: Tensor,
        applicants_per_step: int,
        candidates: int,
        values: LabelValues,
        drift: float,
        fatigue: float,
        no_repeats: bool,
        seed: int,
    ) -> None:
        if not 0 <= drift <= 1:
            raise InputError(f"drift is {drift}, it must lie in [0, 1]")
        if not 0 <= fatigue < float("inf"):
            raise InputError(f"fatigue is {fatigue}, it must be 0 or more")
        if seed < 0:
            raise InputError(f"the seed of the drifting market is {seed}, it must be 0 or more")
        if not values.apply > max(values.save, 0) or values.save < values.ignore:
            raise InputError(f"rewards must satisfy apply > save >= ignore and apply > 0, here {values}")
        if not space.pairs:
            raise InputError("a drifting market needs a pair of applicant and job fields to compare, here is none")
        if not len(pool):
            raise InputError("a drifting market needs applicants, the pool is empty")
        self.catalogue_size = len(space.actions)
        if not 1 <= candidates <= self.catalogue_size:
            raise InputError(f"{candidates} candidates were asked for, the catalogue allows 1 to {self.catalogue_size}")
        self.n, self.drift, self.fatigue, self._seed = candidates, drift, fatigue, seed
        self.values = values
        self.applicants_per_step = min(applicants_per_step, len(pool))
        self._pool = pool
        chance = torch.Generator().manual_seed(int(_hash(seed, _MARKET)))
        self._interests, self._kinds = _hidden(space, chance)
        self._save_above, self._apply_above = self._thresholds(chance)
        self._recent = torch.full((len(space.states), RECENT), -1)
        shape = (len(space.states), self.catalogue_size) if no_repeats else (0, 0)
        self._applied = torch.zeros(shape, dtype=torch.bool)
        self._no_repeats = no_repeats
        self._sampler = CandidateSampler(self.catalogue_size, candidates)

    def observe(self, step: int) -> Observation:
        """Distinct applicants of the pool, each with distinct candidates.

        Raises:
            InputError: an applicant has applied to so many jobs that too few are left.
        """
        arrival = _hash(self._seed, _APPLICANTS, step, self._pool)
        applicants = self._pool[arrival.argsort()[: self.applicants_per_step]]
        seeds = _hash(self._seed, _CANDIDATES, step, applicants)
        if not self._no_repeats:
            return Observation(applicants, self._sampler.draw(seeds))
        applied = self._applied[applicants]
        most = int(applied.sum(dim=1).max())
        if self.n + most > self.catalogue_size:
            raise InputError(
                f"an applicant has applied to {most} of {self.catalogue_size} jobs, which leaves fewer than"
                f" {self.n} candidates: ask for fewer, run fewer steps or allow repeats"
            )
        # As many more as the busiest applicant may lose; those applied to move behind all others, order kept.
        drawn = CandidateSampler(self.catalogue_size, self.n + most).draw(seeds)
        gone = applied.gather(1, drawn).byte()
        return Observation(applicants, drawn.gather(1, gone.argsort(dim=1, stable=True))[:, : self.n])

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Answers to the jobs shown, and what they do to the applicants: int64 [L], [L] -> float32 [L].

        Jobs shown to one applicant in one call are a slate: all are answered before any of them has an effect.

        Raises:
            InputError: the shapes do not fit, or a row is not in the market.
        """
        if applicants.ndim != 1 or applicants.shape != jobs.shape:
            raise InputError(f"applicants {list(applicants.shape)} and jobs {list(jobs.shape)} are not both [L]")
        _check_rows("applicant", applicants, len(self._interests))
        _check_rows("job", jobs, self.catalogue_size)
        uniform = _uniform(_hash(self._seed, _ANSWER, step, applicants, jobs))
        felt = self._utility(applicants, jobs) + TEMPERATURE * torch.logit(uniform)
        applied = felt > self._apply_above
        answers = torch.where(felt > self._save_above, self.values.save, self.values.ignore)
        answers = answers.where(~applied, self.values.apply)
        if self._no_repeats:
            self._applied[applicants[applied], jobs[applied]] = True
        place = _place_in_slate(applicants)
        for now in (place == k for k in torch.unique(place)):
            self._move(applicants[now], jobs[now], answers[now])
        return answers

    def _move(self, applicants: Tensor, jobs: Tensor, answers: Tensor) -> None:
        """Drift and boredom of distinct applicants after one job each."""
        pull = self.drift * answers.clamp(min=0)[:, None] / self.values.apply
        before = self._interests[applicants]
        after = F.normalize(before.lerp(self._kinds[jobs], pull), dim=1)
        self._interests[applicants] = after.where(pull > 0, before)  # not even by rounding, where nothing pulls
        self._recent[applicants] = torch.cat([self._recent[applicants, 1:], jobs[:, None]], dim=1)

    def expected(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Expected answers as the applicants are now, hidden from agents: int64 [B], [B, n] -> float32 [B, n]."""
        utility = self._utility(applicants[:, None], jobs)
        save = torch.sigmoid((utility - self._save_above) / TEMPERATURE)
        apply = torch.sigmoid((utility - self._apply_above) / TEMPERATURE)
        values = self.values
        return values.ignore + (values.save - values.ignore) * save + (values.apply - values.save) * apply

    def bounds(self, seen: Observation) -> tuple[float, float]:
        """Expected reward of showing one job at this step, the best candidate and a random one: (optimum, random)."""
        expected = self.expected(seen.applicants, seen.candidates)
        return float(expected.max(dim=1).values.mean()), float(expected.mean())

    def tensors(self) -> dict[str, Tensor]:
        """What answers have changed; everything else follows from the arguments."""
        changing = {"interests": self._interests, "recent": self._recent, "applied": self._applied}
        return {name: tensor.clone() for name, tensor in changing.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        self._interests, self._recent = tensors["interests"].clone(), tensors["recent"].clone()
        self._applied = tensors["applied"].clone()

    def _utility(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        kinds = self._kinds[jobs]
        liking = (self._interests[applicants] * kinds).sum(-1)
        recent = self._recent[applicants]
        alike = (self._kinds[recent.clamp(min=0)] * kinds[..., None, :]).sum(-1).clamp(min=0) ** SAMENESS
        return liking - self.fatigue * (alike * (recent >= 0)).mean(-1)

    def _thresholds(self, chance: torch.Generator) -> tuple[float, float]:
        """Utilities above which random pairs are saved and applied to at the shares wished for."""
        applicants = torch.randint(len(self._interests), (REFERENCE,), generator=chance)
        jobs = torch.randint(self.catalogue_size, (REFERENCE,), generator=chance)
        liking = (self._interests[applicants] * self._kinds[jobs]).sum(-1)
        return float(liking.quantile(1 - SAVE_SHARE)), float(liking.quantile(1 - APPLY_SHARE))


def _hidden(space: FeatureSpace, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Interests [N, KINDS] and kinds [M, KINDS]; centred first, or what all vectors share would be all there is."""
    states, actions = space.states - space.states.mean(dim=0), space.actions - space.actions.mean(dim=0)
    interests, kinds = torch.zeros(len(states), KINDS), torch.zeros(len(actions), KINDS)
    for i, j in space.pairs:
        projection = torch.randn(space.d, KINDS, generator=chance)
        interests += states[:, i : i + space.d] @ projection
        kinds += actions[:, j : j + space.d] @ projection
    return F.normalize(interests, dim=1), F.normalize(kinds, dim=1)


def _check_rows(kind: str, rows: Tensor, count: int) -> None:
    outside = rows[(rows < 0) | (rows >= count)]
    if len(outside):
        raise InputError(f"{kind} row {int(outside[0])} is not in the drifting market, which has {count}")


def _place_in_slate(applicants: Tensor) -> Tensor:
    """How often each applicant came before in the same list: int64 [L] -> int64 [L]."""
    together, order = applicants.sort(stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order)) - torch.searchsorted(together, together)
    return place


_INCREMENT = -7046029254386353131  # of splitmix64, as in candidates.py: zeros must not hash to zero


def _hash(*counters: Tensor | int) -> Tensor:
    """Counters, broadcast against each other, to int64: randomness without a state (Salmon et al. 2011)."""
    state = torch.zeros((), dtype=torch.int64)
    for counter in counters:
        state = mix((state ^ counter) + _INCREMENT)
    return state


def _uniform(bits: Tensor) -> Tensor:
    """The upper 53 bits as a float64 in the open interval (0, 1), where a logit is finite."""
    return (((bits >> 11) & (2**53 - 1)).double() + 0.5) * 2.0**-53
