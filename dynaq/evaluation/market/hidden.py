"""Hidden utilities of the held-out market: what applicants want, which no training reward knows.

The utility of a pair is a weighted sum of terms, each standardised over random pairs, so that a weight is about the
share of variance that the term has:

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
see, a third for what content can teach (taste, fashion), a third for what the vectors hardly tell.

Agreement with MiniLM, measured once: the mean cosine of the fields correlates 0.43 with the utility on a
generated market and 0.2 on real resumes and postings. A report says how it was on the panel of its night.

It shares no code, features, prompt or weights with a training reward (tested), and reads words, not vectors.

Limits: preferences do not change and nobody competes for a job. Generated texts, their stand-in labels and this
market all follow the same words, so that they agree more than life would. Equal numbers need the same processor
family and library versions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from dynaq.errors import InputError
from dynaq.evaluation.market import draws
from dynaq.evaluation.market.traits import TOPICS, Floats, MarketTraits

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
REFERENCE = 20_000  # random pairs that the scales are measured on
CHUNK = 2**15  # pairs worked on at once: bounds the memory whatever is asked

# The first counter of every draw: what it is for; draws of the market begin where these end.
_PRIVATE, _LUCK, _MAPS = range(3)


class HiddenUtilities:
    """One draw of tastes and appeal over a snapshot's applicants and jobs; rows are the snapshot's.

    Args:
        traits: what `read_traits` read off the texts.
        seed: 0 or more; decides tastes and appeal.

    Raises:
        InputError: the seed is negative.
    """

    def __init__(self, traits: MarketTraits, seed: int) -> None:
        if seed < 0:
            raise InputError(f"the seed of the simulated market is {seed}, it must be 0 or more")
        self._applicants, self._jobs = traits.applicants, traits.jobs
        chance = np.random.default_rng([seed, _MAPS])
        self._kinds = _kinds(self._jobs.topics, chance)
        self._interests = _interests(self._applicants.topics, chance)
        self._fashion = _inner(self._kinds, chance.standard_normal(KINDS, dtype=np.float32))
        kind = np.arange(KINDS)
        self._private = draws.normals(_PRIVATE, seed, self._applicants.keys[:, None], kind).astype(np.float32)
        self._luck = draws.normals(_LUCK, seed, self._jobs.keys).astype(np.float32)
        applicants = chance.integers(len(self._applicants), size=REFERENCE)
        jobs = chance.integers(len(self._jobs), size=REFERENCE)
        self._scales = _shares(self._raw_terms(applicants, jobs))

    def matrix(self, applicants: Rows, jobs: Rows) -> Floats:
        """Utilities of every pair: int64 [A], [J] -> float32 [A, J].

        Raises:
            InputError: a row is not in the market.
        """
        every = np.repeat(applicants, len(jobs)), np.tile(jobs, len(applicants))
        utility = np.zeros(len(every[0]), dtype=np.float32)
        for start in range(0, len(utility), CHUNK):
            chunk = slice(start, start + CHUNK)
            for term in self.terms(every[0][chunk], every[1][chunk]).values():
                utility[chunk] += term
        return utility.reshape(len(applicants), len(jobs))

    def terms(self, applicants: Rows, jobs: Rows) -> dict[str, Floats]:
        """What each term adds to the utility of pairs, standardised and weighted; no agent may see it.

        Args:
            applicants: int64 [B].
            jobs: int64 [B].

        Returns:
            float32 [B] for each term of WEIGHTS that this market has.

        Raises:
            InputError: a row is not in the market.
        """
        _check_rows("applicant", applicants, len(self._applicants))
        _check_rows("job", jobs, len(self._jobs))
        raw = self._raw_terms(applicants, jobs)
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


def _check_rows(kind: str, rows: Rows, count: int) -> None:
    if rows.size and not 0 <= (worst := int(rows.min() if rows.min() < 0 else rows.max())) < count:
        raise InputError(f"{kind} row {worst} is not in the simulated market, which has {count}")
