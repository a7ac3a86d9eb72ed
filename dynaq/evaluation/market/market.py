"""The held-out market that agents are judged in: applicants who answer, tire of what they see, and do not apply twice.

An applicant interacts with a shown job with probability sigmoid((u - tired - threshold) / temperature):

    u           the utility of the pair, a matrix given from outside (hidden.py, dial.py)
    tired       FATIGUE times how much the job looks like those shown lately (exponential decay); never negative
    threshold,  set so that random pairs interact at a rate of 0.10 and the best of 50 at 0.65 while nobody
    temperature is tired

A job that an applicant has interacted with is not offered to the same applicant again. What an agent shows thus
changes what it may earn later. The best slate of a step, given all that has happened, is known: it is the n
candidates' most probable ones.

All luck is common: the order of candidates and the luck of a pair are functions of (seed, step, applicant, job),
whoever asks, so that agents that show the same earn the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from dynaq.errors import InputError
from dynaq.evaluation.market import draws
from dynaq.evaluation.market.traits import Side

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]

FATIGUE, MEMORY = 0.15, 0.7  # standard deviations of utility a look-alike shown just now; what is left a step later
MEAN_RATE, BEST_RATE, BEST_OF = 0.10, 0.65, 50
TEMPERATURES = (0.2, 5.0)  # in standard deviations of utility

# The first counter of every draw: what it is for; smaller ones are hidden.py's.
_ANSWER, _CANDIDATES, _CALIBRATION = range(10, 13)


class Market:
    """One draw of a market over A applicants and J jobs; rows are those of the utilities.

    Args:
        utilities: [A, J], finite, in any unit: they are standardised.
        applicants: those of the rows.
        jobs: those of the columns.
        seed: 0 or more; decides candidates and luck.

    Raises:
        InputError: the shapes do not fit, a utility is not finite, or all are equal.
    """

    def __init__(self, utilities: Floats, applicants: Side, jobs: Side, seed: int) -> None:
        if utilities.shape != (len(applicants), len(jobs)):
            raise InputError(
                f"utilities {list(utilities.shape)} are not of {len(applicants)} applicants x {len(jobs)} jobs"
            )
        if not np.isfinite(utilities).all() or utilities.std() == 0:
            raise InputError("the utilities of a market must be finite and not all the same")
        self._seed, self._people, self._jobs = seed, applicants.keys, jobs.keys
        self.looks = jobs.topics
        self._utility = ((utilities - utilities.mean()) / utilities.std()).astype(np.float32)
        self._threshold, self._temperature = _calibrate(self._sample())
        self.tired = np.zeros((len(applicants), self.looks.shape[1]), dtype=np.float32)
        self.gone = np.zeros(utilities.shape, dtype=np.bool_)

    def _sample(self) -> Floats:
        """Utilities of BEST_OF random jobs, or of all where there are fewer, for each applicant."""
        jobs = self._utility.shape[1]
        chance = np.random.default_rng([self._seed, _CALIBRATION])
        return np.stack([row[chance.permutation(jobs)[:BEST_OF]] for row in self._utility])

    def base_chances(self) -> Floats:
        """Probability of every interaction while nobody is tired: float32 [A, J]."""
        return np.asarray(expit((self._utility - self._threshold) / self._temperature))

    def candidates(self, step: int, n: int, *, at_rest: bool = False) -> Rows:
        """Distinct jobs for every applicant, none interacted with: int64 [A, n], the same for the same history.

        Args:
            step: of which.
            n: how many.
            at_rest: as if nobody had interacted with anything yet.

        Raises:
            InputError: an applicant has fewer than n jobs left.
        """
        gone = np.zeros_like(self.gone) if at_rest else self.gone
        left = int((~gone).sum(axis=1).min())
        if not 1 <= n <= left:
            raise InputError(
                f"{n} candidates were asked for and an applicant has {left} jobs left: hold out more jobs"
                " (split.jobs, compare.jobs), run fewer steps or ask for fewer agent.candidates"
            )
        order = draws.bits(_CANDIDATES, self._seed, step, self._people[:, None], self._jobs)
        order = np.where(gone, np.iinfo(np.uint64).max, order)
        first = np.argpartition(order, n - 1, axis=1)[:, :n]
        return np.take_along_axis(first, np.take_along_axis(order, first, axis=1).argsort(axis=1), axis=1)

    def chances(self, jobs: Rows) -> Floats:
        """Probability that each applicant interacts with the jobs shown now: int64 [A, k] -> float32 [A, k]."""
        # Not by BLAS, which may round a pair differently in another batch, and answers must not depend on it.
        alike = (self.tired[:, None, :] * self.looks[jobs]).sum(axis=-1)
        utility = np.take_along_axis(self._utility, jobs, axis=1) - FATIGUE * np.maximum(alike, 0)
        return np.asarray(expit((utility - self._threshold) / self._temperature))

    def answers(self, step: int, jobs: Rows) -> Floats:
        """Show a slate to every applicant: int64 [A, k] -> float32 [A, k], 1 for an interaction.

        Jobs of one slate are answered before any of them has an effect.
        """
        luck = draws.uniforms(_ANSWER, self._seed, step, self._people[:, None], self._jobs[jobs])
        interacted = luck < self.chances(jobs)
        rows = np.arange(len(jobs))[:, None]
        self.gone[rows, jobs] |= interacted
        self.tired = MEMORY * self.tired + self.looks[jobs].sum(axis=1)
        return interacted.astype(np.float32)


def _calibrate(utility: Floats) -> tuple[float, float]:
    """Threshold and temperature that give the wished rates, from utilities [applicants, jobs]."""

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
