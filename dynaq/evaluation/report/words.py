"""What the figures of a study allow to say, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dynaq.config.stages import DialConfig
from dynaq.evaluation.report.lineup import CHALLENGING, budgets, controls, four
from dynaq.evaluation.study.metrics import Estimate
from dynaq.evaluation.study.study import FULL_APPLICANTS, FULL_SEEDS, Cell, Row, Study

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
    whose distance to the first may be zero tie with it. llm and hybrid are those of the largest budget; where they do
    not pay and do with fewer labels, that is said too, for such an agent may be the challenger.
    """
    warm = [row for row in four(study, gamma) if row.gain and row.adjusted is not None]
    paying = sorted((row for row in warm if row.pays), key=lambda row: -_gain(row).mean)
    harmful = [row for row in warm if row.harms]
    fewer = _with_fewer_labels(study, gamma, paying)
    largest = max(budgets(study, gamma), default=0)
    among = f" with {largest:,} labels or none" if fewer else ""
    clauses = _payers(study, paying, among) if paying else [_nobody(warm, among)]
    if fewer:
        clauses.insert(1, f"with fewer labels {listed(fewer)} {'pays' if len(fewer) == 1 else 'pay'} too")
    if harmful:
        clauses.append(f"worse than no warm start: {', '.join(map(_gained, harmful))}")
    return "; ".join(clauses) + "."


def _with_fewer_labels(study: Study, gamma: float, paying: Sequence[Row]) -> list[str]:
    """The agents that pay with fewer labels, and not with the most."""
    known = {row.contestant.kind for row in paying}
    return [
        f"{row.contestant.name} ({interval(_gain(row), '+.3f')}, {p_value(row.adjusted or 0.0)})"
        for kind in ("llm", "hybrid")
        if kind not in known
        for labels in budgets(study, gamma)[:-1]
        if (row := study.row(kind, gamma, labels)) and row.pays
    ]


def _gain(row: Row) -> Estimate:
    return row.gain.difference if row.gain else NONE


def _gained(row: Row) -> str:
    return f"{row.contestant.kind} {interval(_gain(row), '+.3f')} ({p_value(row.adjusted or 0.0)})"


def _nobody(warm: Sequence[Row], among: str) -> str:
    if not warm:
        return "No agent with a warm start took part"
    best = max(warm, key=lambda row: _gain(row).mean)
    return (
        f"No warm start{among} is shown to earn more than none: the best is {_gained(best)}, in interactions per job"
        " shown and with p adjusted by Holm"
    )


def _payers(study: Study, paying: list[Row], among: str) -> list[str]:
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
        head = f"{name} is the one warm start that pays{among}"
    late = f"late on, in shares of the way from random to the best, {listed([_late(row) for row in top])}"
    return [f"{head}: {gains} {unit}", late, _beside(study, first), _price(study, top)]


def _lead(study: Study, first: Row, second: Row) -> Estimate:
    return study.lead(first.contestant, second.contestant)


def _late(row: Row) -> str:
    """What it knows then beside what the baseline knows."""
    name, late = row.contestant.kind, row.late_gain.difference if row.late_gain else NONE
    beside = "still knows more than" if late.low > 0 else "knows less than" if late.high < 0 else "has been met by"
    return f"{name} {beside} the baseline ({interval(late, '+.3f')})"


def _beside(study: Study, first: Row) -> str:
    """Which controls, that start without an agent's pre-training or planning, do as well."""
    rows = [row for row in controls(study, first.contestant.gamma) if row.contestant.kind in CHALLENGING]
    leads = {row.contestant.name: _lead(study, row, first) for row in rows}
    if level := [f"{name} ({interval(lead, '+.3f')})" for name, lead in leads.items() if lead.high >= 0]:
        return f"of the controls {listed(level)} {'is' if len(level) == 1 else 'are'} not shown to earn less"
    return "every control earns less"


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
    """Who is shown to earn more than the baseline."""
    ahead = [row.contestant.kind for row in rows if row.pays]
    if not ahead:
        return "No warm start is shown to earn more than the baseline"
    return f"Over all steps {listed(ahead)} {'earns' if len(ahead) == 1 else 'earn'} more than the baseline"


def shares_title(rows: Sequence[Row]) -> str:
    """Who knows more than the baseline late on."""
    late = {row.contestant.kind: row.late_gain.difference for row in rows if row.late_gain}
    parts = {
        "more": [name for name, gain in late.items() if gain.low > 0],
        "less": [name for name, gain in late.items() if gain.high < 0],
        "as much": [name for name, gain in late.items() if gain.low <= 0 <= gain.high],
    }
    told = [
        f"{listed(names)} {'knows' if len(names) == 1 else 'know'} {what}" for what, names in parts.items() if names
    ]
    return f"Late on, beside the baseline: {listed(told)}" if told else "What the baseline knows"


def survival_title(threshold: float, rows: Sequence[Row]) -> str:
    """In how many seeds each gets there."""
    there = [f"{row.contestant.kind} {100 * row.times[threshold].reached_share:.0f}%" for row in rows]
    return f"{100 * threshold:g}% of the way to the best is held in so many seeds: {listed(there)}"


def cost_title(study: Study, gamma: float) -> str:
    """Who earns most at the largest budget, and who cannot be told from it."""
    largest = max(budgets(study, gamma), default=0)
    rows = [row for row in study.rows if row.contestant.labels == largest and row.contestant.gamma == gamma]
    first, *others = sorted(rows, key=lambda row: -row.average.mean)
    level = [row.contestant.kind for row in others if _lead(study, first, row).low <= 0]
    if level:
        return f"With {largest:,} labels {listed([first.contestant.kind, *level])} tie at the top"
    return f"With {largest:,} labels {first.contestant.kind} earns most"


def calibration_title(rows: Sequence[Row]) -> str:
    """How far each world model is from the truth."""
    off = [f"{row.contestant.kind} {row.calibration_error.mean:.3f}" for row in rows if row.calibration_error]
    return f"World models are off by so much on average: {listed(off)}" if off else "What world models believe"


def apart_until(row: Row, baseline: Row) -> str:
    """How long the band of an agent lies wholly above the baseline's from the first step on."""
    above = row.known.low > baseline.known.high
    if above.all():
        return "the end"
    return f"step {row.known.steps[above.argmin() - 1]}" if above[0] else "not from the start"


def no_map(study: Study, dial: DialConfig) -> str:
    """Why a map was not drawn, or not of every reward that was asked for; empty where all were."""
    if not dial.levels:
        return "No map was drawn: `compare.dial.levels` is empty, so contestants met the market of the evaluator only."
    drawn = {cell.world.towards for cell in study.map}
    if absent := [name for name in dial.rewards if name not in drawn]:
        return (
            f"No map of the {listed(absent)} reward: its labels of the panel could not be had or are not trusted; the"
            " log of the night says why."
        )
    return ""
