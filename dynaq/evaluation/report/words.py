"""What the figures of a study allow to say, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dynaq.evaluation.report.lineup import budgets, four
from dynaq.evaluation.study.metrics import Estimate
from dynaq.evaluation.study.study import FULL_APPLICANTS, FULL_SEEDS, LEVEL, Cell, Row, Study

NONE = Estimate(0.0, 0.0, 0.0)  # what a baseline gains over itself


def interval(value: Estimate, form: str = ".3f") -> str:
    """Mean and 95% interval."""
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def p_value(p: float) -> str:
    """Three digits; smaller ones are not zero."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def listed(names: Sequence[str]) -> str:
    """For people: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def verdict(study: Study, gamma: float) -> str:
    """Which warm start pays, by how much, whether it lasts and at what price: one sentence.

    An agent pays where the 95% interval of its gain lies above zero and Holm's adjusted p-value is at most 0.05; those
    whose distance to the first may be zero tie with it.
    """
    warm = [row for row in four(study, gamma) if row.gain and row.adjusted is not None]
    paying = sorted((row for row in warm if _told(row) and _gain(row).low > 0), key=lambda row: -_gain(row).mean)
    harmful = [row for row in warm if _told(row) and _gain(row).high < 0]
    clauses = _payers(study, paying) if paying else [_nobody(warm)]
    if harmful:
        clauses.append(f"worse than no warm start: {', '.join(map(_gained, harmful))}")
    return "; ".join(clauses) + "."


def _told(row: Row) -> bool:
    return row.adjusted is not None and row.adjusted <= LEVEL


def _gain(row: Row) -> Estimate:
    return row.gain.difference if row.gain else NONE


def _gained(row: Row) -> str:
    return f"{row.contestant.kind} {interval(_gain(row), '+.3f')} ({p_value(row.adjusted or 0.0)})"


def _nobody(warm: Sequence[Row]) -> str:
    if not warm:
        return "No agent with a warm start took part"
    best = max(warm, key=lambda row: _gain(row).mean)
    return (
        f"No warm start is shown to earn more than none: the best is {_gained(best)}, in interactions per job shown"
        " and with p adjusted by Holm"
    )


def _payers(study: Study, paying: list[Row]) -> list[str]:
    first, rest = paying[0], paying[1:]
    leads = {row.contestant.kind: _lead(study, first, row) for row in rest}
    level = [row for row in rest if leads[row.contestant.kind].low <= 0]
    top = [first, *level]
    gains = ", ".join(map(_gained, paying))
    unit = "interactions per job shown more than without a warm start (p adjusted by Holm)"
    name = first.contestant.kind
    if level:
        apart = interval(leads[level[0].contestant.kind], "+.3f")
        head = f"{listed([row.contestant.kind for row in top])} tie at the top, {apart} between the first two"
    elif rest:
        second = rest[0].contestant.kind
        head = f"{name} pays most, {interval(leads[second], '+.3f')} ahead of {second}"
    else:
        head = f"{name} is the one warm start that pays"
    return [f"{head}: {gains} {unit}", f"late on, {listed([_late(row) for row in top])}", _price(study, top)]


def _lead(study: Study, first: Row, second: Row) -> Estimate:
    return study.leads[first.contestant.name, second.contestant.name].difference


def _late(row: Row) -> str:
    name, late = row.contestant.kind, row.late_gain.difference if row.late_gain else NONE
    if late.low > 0:
        return f"{name} still leads by {interval(late, '+.3f')} of the best slate's worth"
    if late.high < 0:
        return f"{name} has fallen behind ({interval(late, '+.3f')} of the best slate's worth)"
    return f"{name} and the baseline have met ({interval(late, '+.3f')} of the best slate's worth)"


def _price(study: Study, top: Sequence[Row]) -> str:
    """In labels; and whether fewer would have done, as far as the seeds tell."""
    if free := [row.contestant.kind for row in top if not row.contestant.labels]:
        return (
            f"{free[0]} is the cheapest of them and needs no paid label" if len(top) > 1 else "it needs no paid label"
        )
    row = top[0]
    price = f"the price is {row.before['labels']:,.0f} paid labels an agent"
    fewer = (study.row(row.contestant.kind, row.contestant.gamma, n) for n in budgets(study, row.contestant.gamma)[:-1])
    for less in fewer:
        if less and (lead := _lead(study, row, less)).low <= 0:
            return f"{price}, and the difference to {less.contestant.labels:,}, {interval(lead, '+.3f')}, may be none"
    return price


def quick_look(study: Study) -> str:
    """What a study of this size is good for; empty if it is full."""
    if study.full:
        return ""
    return (
        f"**A quick look**: {study.seeds} seeds x {study.applicants} applicants. Decide on a full study only, of at"
        f" least {FULL_SEEDS} x {FULL_APPLICANTS}."
    )


def planning(study: Study, gamma: float) -> str:
    """What planning is worth in labels."""
    replayed = [row for row in study.rows if row.contestant.kind == "no planning" and row.contestant.gamma == gamma]
    if len(replayed) < 3:
        return "What planning is worth in labels was not measured: that needs hybrid with and without it at 3 budgets."
    if study.planning is None:
        return (
            "What planning is worth in labels cannot be said: labels do not lift the control, hybrid without planning,"
            " so no number of them is worth another."
        )
    return (
        f"Planning is worth {interval(study.planning, '.2f')} times the labels: so many times as many does hybrid need"
        " without it to earn the same (1: planning is worth nothing; below 1: it costs labels). An end of the interval"
        ' at the edge of the budgets means "or beyond".'
    )


def map_title(towards: str, cells: Sequence[Cell]) -> str:
    """Who leads most often, and how often that is more than a tie."""
    winner, times = Counter(cell.best for cell in cells).most_common(1)[0]
    clear = sum(cell.best == winner and cell.lead.difference.low > 0 for cell in cells)
    return f"Agreement with {towards}: {winner} is first in {times} of {len(cells)} cells, clearly in {clear}"


def curves_title(rows: Sequence[Row]) -> str:
    """Who starts highest and what has become of it late on."""
    first = max(rows, key=lambda row: row.jump_start.mean)
    name, late = first.contestant.kind, first.late_gain
    if late is None:
        return "No warm start begins above the baseline"
    if late.difference.low > 0:
        return f"{name} starts highest and still leads the baseline late on"
    if late.difference.high < 0:
        return f"{name} starts highest, but late on the baseline is ahead"
    return f"{name} starts highest; late on the baseline has caught up"


def survival_title(threshold: float, rows: Sequence[Row]) -> str:
    """Who gets there first."""
    goal = f"{100 * threshold:g}% of the way to the best"
    if not any(row.times[threshold].reached_share for row in rows):
        return f"{goal}: nobody gets there"
    first = min(rows, key=lambda row: row.times[threshold].restricted_mean)
    mean = first.times[threshold].restricted_mean
    return f"{goal}: {first.contestant.kind} is there first, after {mean:.1f} steps on average"


def cost_title(study: Study, gamma: float) -> str:
    """Who earns most at the largest budget."""
    largest = max(budgets(study, gamma), default=0)
    rows = [row for row in study.rows if row.contestant.labels == largest and row.contestant.gamma == gamma]
    best = max(rows, key=lambda row: row.average.mean)
    return f"With {largest:,} labels {best.contestant.kind} earns most"


def calibration_title(rows: Sequence[Row]) -> str:
    """Whose world model is nearest to the truth."""
    off = {
        row.contestant.kind: sum(abs(p - t) for p, t in row.calibration) / len(row.calibration)
        for row in rows
        if row.calibration
    }
    best = min(off, key=lambda name: off[name])
    return f"World models: {best} is nearest to the truth, off by {off[best]:.3f} on average"


def apart_until(row: Row, baseline: Row) -> str:
    """The last step at which the band of an agent lies wholly above the baseline's."""
    above = row.curve.steps[row.curve.low > baseline.curve.high]
    if not len(above):
        return "never"
    return "the end" if above[-1] == row.curve.steps[-1] else f"step {above[-1]}"
