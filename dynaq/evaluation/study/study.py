"""What a study tells: one row a contestant, paired differences, and the map."""

from __future__ import annotations

from dataclasses import dataclass

from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import World
from dynaq.evaluation.study.metrics import Curve, Estimate
from dynaq.evaluation.study.statistics import Difference
from dynaq.evaluation.study.survival import Survival

LEVEL = 0.05  # of a p-value at which a gain counts as shown
FULL_SEEDS, FULL_APPLICANTS = 20, 100  # less than this is a quick look, and says so


@dataclass(frozen=True)
class Row:
    """One contestant over all seeds, in interactions per job shown where nothing else is said.

    Attributes:
        contestant: who.
        jump_start, average, late: mean reward of the first window of steps, of all, and of the last share.
        late_known: in that last share of the steps, what it would show to applicants at rest, as a share of the way
            from a random to the best slate of the same candidates. Who has earned much has fewer good jobs left: its
            rewards sink, what it knows does not.
        middle: interquartile mean of the average over seeds.
        regret: mean of what the best slate of the same candidates would have been expected to earn more, per step.
        cumulative: rewards of an applicant summed over all steps.
        gain, late_gain: of the average and of the late_known to the baseline of the same discount; None for it.
            Late gains are not corrected for how many there are.
        adjusted: p-value of the gain after Holm's correction over the gains of all agents, budgets and discounts.
        times: threshold -> survival of "what it would show at rest does not hold this share of the way yet".
        ndcg: at launch and at the end, NDCG@10 over the panel's jobs.
        coverage, diversity, gini: at the end.
        reached: at launch, what its first choice among all jobs is worth as a share of the best, random choice being
            0: under the market, and under each training reward.
        gap: exploitation gap: share of the best under the reward it was trained on last, less that under the market.
        calibration: predicted and true rate by tenth of the world model's predictions, at the end.
        calibration_error: mean distance of the two, over tenths and seeds.
        before: paid labels, tokens and gradient steps before launch, means over seeds.
        curve: trailing mean of the reward.
        known: at each step, the share of the way as in `late_known`, over all applicants.
    """

    contestant: Contestant
    jump_start: Estimate
    average: Estimate
    late: Estimate
    late_known: Estimate
    middle: Estimate
    regret: Estimate
    cumulative: Estimate
    gain: Difference | None
    late_gain: Difference | None
    adjusted: float | None
    times: dict[float, Survival]
    ndcg: tuple[Estimate, Estimate]
    coverage: float
    diversity: float
    gini: float
    reached: dict[str, float]
    gap: Estimate | None
    calibration: list[tuple[float, float]] | None
    calibration_error: Estimate | None
    before: dict[str, float]
    curve: Curve
    known: Curve

    @property
    def pays(self) -> bool:
        """Whether it is shown to earn more than the baseline: an interval above 0, and Holm's p of 0.05 at most."""
        return self._told and self.gain is not None and self.gain.difference.low > 0

    @property
    def harms(self) -> bool:
        """Whether it is shown to earn less, likewise."""
        return self._told and self.gain is not None and self.gain.difference.high < 0

    @property
    def _told(self) -> bool:
        return self.adjusted is not None and self.adjusted <= LEVEL


@dataclass(frozen=True)
class Cell:
    """One cell of the map: who earns most on average with so many labels in a market that agrees so far.

    Attributes:
        world, labels: where.
        averages: of cosine, llm, hybrid and baseline; with 0 labels llm is the baseline and hybrid the cosine.
        best, second: the two that earned most.
        lead: paired difference between them, not corrected for the choice of the two nor for the number of cells.
        late: of every arm but the baseline, paired difference of what it knows late on to what the baseline knows.
    """

    world: World
    labels: int
    averages: dict[str, Estimate]
    best: str
    second: str
    lead: Difference
    late: dict[str, Difference]


@dataclass(frozen=True)
class Study:
    """All contestants side by side.

    Attributes:
        rows: in the market of the evaluator; ``optimum`` and ``random`` among them.
        map: cells by reward, level and budget; empty where no dial was set.
        agreement: correlation of the market's utilities with each training reward.
        planning: label multiplier of planning: labels that the hybrid without it needs for what it has, over its own.
        leads: paired difference of the averages of any two contestants at the configured discount; see ``lead``.
        seeds, applicants, jobs, steps: of each market.
    """

    rows: list[Row]
    map: list[Cell]
    agreement: dict[str, float]
    planning: Estimate | None
    leads: dict[tuple[str, str], Difference]
    seeds: int
    applicants: int
    jobs: int
    steps: int

    @property
    def full(self) -> bool:
        """Whether it is large enough for more than a quick look."""
        return self.seeds >= FULL_SEEDS and self.applicants >= FULL_APPLICANTS

    def lead(self, first: Contestant, second: Contestant) -> Estimate:
        """By how much one earns more than another on average, at the configured discount."""
        if found := self.leads.get((first.name, second.name)):
            return found.difference
        behind = self.leads[second.name, first.name].difference
        return Estimate(-behind.mean, -behind.high, -behind.low)

    def row(self, kind: str, gamma: float, labels: int = 0) -> Row | None:
        """One contestant's row; None if it did not take part."""
        wanted = Contestant(kind, gamma, labels)  # type: ignore[arg-type]
        return next((row for row in self.rows if row.contestant == wanted), None)
