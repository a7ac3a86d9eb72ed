"""The held-out market in which agents are compared: hidden utilities that no training reward knows.

An applicant interacts with a shown job with probability sigmoid((u - threshold) / temperature). The utility
u is a weighted sum of terms, each standardised over random pairs, so that a weight is about the share of
variance that the term has:

    match     the words of both are about the same topics (LSA): what a text similarity can see
    taste     a random map from own topics to a few favoured kinds of job: learnable, but no similarity
    private   what this one applicant cares for, drawn by id: to be learned online only
    fashion   kinds of job that everybody likes
    luck      this one job's appeal, drawn by id: to be learned online only
    commute   another place, unless the job is remote; a wish for remote work that is not met
    pay       against the least that the applicant takes, saturating
    seniority a step down repels twice as much as a step up

A term whose attributes a pair lacks adds nothing to it; one that all pairs lack leaves its share to the
others. The weights were set before any agent was trained: a third for what a warm start on similarity can
see, a third for what content can teach (taste, fashion), a third for what the vectors hardly tell. Threshold
and temperature are set so that random pairs interact at a rate of about 0.1 and the best of 50 at about 0.65.

Agreement with MiniLM, measured once: the mean cosine of the fields correlates 0.43 with the utility on a
generated market and 0.2 on real resumes and postings; showing the best cosine of 50 goes 0.65 and 0.25 of
the way from random to the optimum.

It shares no code, features, prompt or weights with a training reward (tested), and reads words, not vectors.

Limits: preferences do not change, an interaction has no degrees, and there is no fatigue, position bias or
competition for a job. How far the market agrees with a training reward is whatever the weights make it; a
dial for that comes later, as a change of shares. Generated texts, their stand-in labels and this market all
follow the same words, so that they agree more than life would. Equal numbers need the same processor family
and library versions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, softmax

from dynaq.errors import InputError
from dynaq.evaluation import draws
from dynaq.evaluation.traits import TOPICS, Floats, MarketTraits

Rows = NDArray[np.int64]

WEIGHTS = {
    "match": 0.34,
    "taste": 0.28,
    "private": 0.08,
    "fashion": 0.07,
    "luck": 0.05,
    "commute": 0.06,
    "pay": 0.06,
    "seniority": 0.06,
}
KINDS = 16  # hidden kinds of job that tastes are about
PASSION = 3.0  # how much an applicant prefers the favourite kind to the next
MEAN_RATE, BEST_RATE, BEST_OF = 0.10, 0.65, 50
TEMPERATURES = (0.2, 5.0)  # in standard deviations of utility
REFERENCE = 400  # applicants, each with BEST_OF jobs, that scales and calibration are measured on
CHUNK = 2**15  # pairs worked on at once: bounds the memory whatever is asked

# The first counter of every draw: what it is for.
_ANSWER, _CANDIDATES, _PRIVATE, _LUCK, _MAPS = range(5)


class SimulatedMarket:
    """One draw of hidden utilities over a snapshot's applicants and jobs; rows are the snapshot's.

    Args:
        traits: what `read_traits` read off the texts.
        seed: 0 or more; decides tastes, appeal, candidates and luck.

    Raises:
        InputError: the seed is negative.
    """

    def __init__(self, traits: MarketTraits, seed: int) -> None:
        if seed < 0:
            raise InputError(f"the seed of the simulated market is {seed}, it must be 0 or more")
        self._applicants, self._jobs, self._seed = traits.applicants, traits.jobs, seed
        chance = np.random.default_rng([seed, _MAPS])
        self._kinds = _kinds(self._jobs.topics, chance)
        self._interests = _interests(self._applicants.topics, chance)
        self._fashion = _inner(self._kinds, chance.standard_normal(KINDS, dtype=np.float32))
        kind = np.arange(KINDS)
        self._private = draws.normals(_PRIVATE, seed, self._applicants.keys[:, None], kind).astype(np.float32)
        self._luck = draws.normals(_LUCK, seed, self._jobs.keys).astype(np.float32)

        applicants = np.repeat(chance.integers(len(self._applicants), size=REFERENCE), BEST_OF)
        jobs = chance.integers(len(self._jobs), size=REFERENCE * BEST_OF)
        self._scales = _shares(self._raw_terms(applicants, jobs))
        self._threshold, self._temperature = _calibrate(self._utility(applicants, jobs).reshape(REFERENCE, BEST_OF))

    def interaction_probability(self, applicants: Rows, jobs: Rows) -> Floats:
        """Probability that each applicant interacts with each job shown.

        Args:
            applicants: int64 [B].
            jobs: int64 [B] or [B, n].

        Returns:
            float32, the shape of jobs.

        Raises:
            InputError: the shapes do not fit, or a row is not in the market.
        """
        a, j = self._pairs(applicants, jobs)
        return self._probability(a, j).reshape(jobs.shape)

    def interactions(self, step: int, applicants: Rows, jobs: Rows) -> Floats:
        """Answers, 1 for an interaction and 0 for none: the same for the same step and pair, whoever asks.

        Args:
            step: 0 or more.
            applicants: int64 [B].
            jobs: int64 [B] or [B, n].

        Returns:
            float32, the shape of jobs.

        Raises:
            InputError: the shapes do not fit, a row is not in the market, or the step is negative.
        """
        _check_step(step)
        a, j = self._pairs(applicants, jobs)
        luck = draws.uniforms(_ANSWER, self._seed, step, self._applicants.keys[a], self._jobs.keys[j])
        return (luck < self._probability(a, j)).astype(np.float32).reshape(jobs.shape)

    def candidates(self, step: int, applicants: Rows, n: int) -> Rows:
        """Distinct jobs to choose from, uniform over the catalogue: the same for the same step and applicant.

        Args:
            step: 0 or more.
            applicants: int64 [B].
            n: candidates for each applicant, at most the number of jobs.

        Returns:
            int64 [B, n], rows of jobs in random order.

        Raises:
            InputError: n is out of range, an applicant is not in the market, or the step is negative.
        """
        _check_step(step)
        if not 1 <= n <= len(self._jobs):
            raise InputError(f"{n} candidates were asked for, the catalogue allows 1 to {len(self._jobs)}")
        _check_rows("applicant", applicants, len(self._applicants))
        keys = draws.bits(_CANDIDATES, self._seed, step, self._applicants.keys[applicants])
        return draws.subsets(keys, len(self._jobs), n)

    def terms(self, applicants: Rows, jobs: Rows) -> dict[str, Floats]:
        """What each term adds to the utility of pairs, to explain the market; no agent may see it.

        Args:
            applicants: int64 [B].
            jobs: int64 [B].

        Returns:
            float32 [B] for each term of WEIGHTS that this market has.

        Raises:
            InputError: the shapes do not fit, or a row is not in the market.
        """
        return self._terms(*self._pairs(applicants, jobs))

    def _probability(self, a: Rows, j: Rows) -> Floats:
        probability: Floats = expit((self._utility(a, j) - self._threshold) / self._temperature)
        return probability

    def _utility(self, a: Rows, j: Rows) -> Floats:
        utility = np.zeros(len(a), dtype=np.float32)
        for start in range(0, len(a), CHUNK):
            chunk = slice(start, start + CHUNK)
            for term in self._terms(a[chunk], j[chunk]).values():
                utility[chunk] += term
        return utility

    def _terms(self, a: Rows, j: Rows) -> dict[str, Floats]:
        """The weighted standardised terms; their sum is the utility, and what is unknown adds nothing."""
        raw = self._raw_terms(a, j)
        return {name: np.nan_to_num(scale * (raw[name] - mean)) for name, (mean, scale) in self._scales.items()}

    def _raw_terms(self, a: Rows, j: Rows) -> dict[str, Floats]:
        """Every term in its own unit, float32 [P], NaN where a pair lacks the attributes."""
        applicants, jobs = self._applicants, self._jobs
        unplaced = (applicants.place[a] < 0) | (jobs.place[j] < 0)
        away = np.where(unplaced, np.nan, applicants.place[a] != jobs.place[j]).astype(np.float32)
        on_site = 1 - np.nan_to_num(jobs.remote[j])
        rise = jobs.level[j] - applicants.level[a]
        return {
            "match": _inner(applicants.topics[a], jobs.topics[j]),
            "taste": _inner(self._interests[a], self._kinds[j]),
            "private": _inner(self._private[a], self._kinds[j]),
            "fashion": self._fashion[j],
            "luck": self._luck[j],
            "commute": -on_site * (away + np.nan_to_num(applicants.remote[a]) / 2),
            "pay": np.tanh(4 * (jobs.pay[j] / applicants.pay[a] - 1)),
            "seniority": -np.where(rise < 0, -2 * rise, rise),
        }

    def _pairs(self, applicants: Rows, jobs: Rows) -> tuple[Rows, Rows]:
        """Flat rows of applicants and jobs, both int64 [P]."""
        if applicants.ndim != 1 or jobs.ndim not in (1, 2) or len(jobs) != len(applicants):
            raise InputError(f"applicants {list(applicants.shape)} and jobs {list(jobs.shape)} are not [B] and [B, n]")
        _check_rows("applicant", applicants, len(self._applicants))
        _check_rows("job", jobs, len(self._jobs))
        return np.repeat(applicants, jobs.size // max(len(jobs), 1)), jobs.ravel()


def _kinds(topics: Floats, chance: np.random.Generator) -> Floats:
    """How much each job is of each kind, [J, TOPICS] -> [J, KINDS]: a kind is what resembles a random job."""
    prototypes = topics[chance.integers(len(topics), size=KINDS)]
    nearness = np.maximum(_columns(topics, prototypes), 0) ** 2
    return np.asarray(nearness - nearness.mean(axis=0))


def _interests(topics: Floats, chance: np.random.Generator) -> Floats:
    """How much each applicant cares for each kind, [A, TOPICS] -> [A, KINDS]: a random map, then a softmax.

    Centred like the kinds, because a kind that all care for is another term.
    """
    favours = _columns(topics, chance.standard_normal((KINDS, TOPICS), dtype=np.float32))
    weights = softmax(PASSION * favours, axis=1)
    return np.asarray(weights - weights.mean(axis=0))


def _columns(topics: Floats, directions: Floats) -> Floats:
    return np.stack([_inner(topics, direction) for direction in directions], axis=1)


def _inner(left: Floats, right: Floats) -> Floats:
    # Not by BLAS, which may round a pair differently in another batch, and answers must not depend on it.
    return np.asarray((left * right).sum(axis=-1))


def _shares(raw: dict[str, Floats]) -> dict[str, tuple[float, float]]:
    """Mean and factor of each term that is there at all, such that its variance is its share among those."""
    known = {name: values[~np.isnan(values)] for name, values in raw.items()}
    spread = {name: float(values.std()) if len(values) else 0.0 for name, values in known.items()}
    there = [name for name in WEIGHTS if spread[name] > 1e-6]
    total = sum(WEIGHTS[name] for name in there)
    return {name: (float(known[name].mean()), float(np.sqrt(WEIGHTS[name] / total)) / spread[name]) for name in there}


def _calibrate(utility: Floats) -> tuple[float, float]:
    """Threshold and temperature that give the wished rates, from utilities [REFERENCE, BEST_OF]."""

    def threshold(temperature: float) -> float:
        low, high = utility.min() - 20 * temperature, utility.max() + 20 * temperature
        return float(brentq(lambda x: expit((utility - x) / temperature).mean() - MEAN_RATE, low, high))

    def excess(temperature: float) -> float:
        best = expit((utility.max(axis=1) - threshold(temperature)) / temperature)
        return float(best.mean()) - BEST_RATE

    coldest, hottest = TEMPERATURES
    if excess(coldest) <= 0:  # too few jobs to find a good one among: the rate of the best falls short
        return threshold(coldest), coldest
    temperature = float(brentq(excess, coldest, hottest)) if excess(hottest) < 0 else hottest
    return threshold(temperature), temperature


def _check_step(step: int) -> None:
    if step < 0:
        raise InputError(f"step is {step}, it must be 0 or more")


def _check_rows(kind: str, rows: Rows, count: int) -> None:
    if rows.size and not 0 <= (worst := int(rows.min() if rows.min() < 0 else rows.max())) < count:
        raise InputError(f"{kind} row {worst} is not in the simulated market, which has {count}")
