"""The tables of a report, in Markdown, narrow enough to be read on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from markupsafe import escape

from dynaq.evaluation.fairness.counterfactual import Swing
from dynaq.evaluation.judges.judged import ArmRelevance
from dynaq.evaluation.report.lineup import COSINE_INSIDE, by_labels, controls, four
from dynaq.evaluation.report.words import apart_until, interval, p_value
from dynaq.evaluation.study.metrics import Estimate
from dynaq.evaluation.study.statistics import Difference
from dynaq.evaluation.study.study import Cell, Row, Study


def plain(name: str) -> str:
    """A name that stays text in Markdown: one line, and no picture, link, code or emphasis."""
    return re.sub(r"([\\`*\[\]!])", r"\\\1", " ".join(name.split()))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; a line a row."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def earned(rows: Sequence[Row]) -> str:
    """What the agents earn, in interactions per job shown."""
    return table(
        ["agent", "first steps", "average", "interquartile mean", "late"],
        ([_agent(row), *map(interval, (row.jump_start, row.average, row.middle, row.late))] for row in rows),
    )


def gained(rows: Sequence[Row]) -> str:
    """What they earn beyond the agent without a warm start."""
    return table(
        ["agent", "gain", "p (Holm)", "probability of improvement"],
        (
            [
                _agent(row),
                _difference(row.gain),
                _p(row.adjusted),
                f"{row.gain.improvement:.2f}",
            ]
            for row in rows
            if row.gain
        ),
    )


def ranked(rows: Sequence[Row]) -> str:
    """What they miss, and how well they rank the whole panel."""
    return table(
        ["agent", "cumulative", "regret", "late, of the way", "NDCG@10 at launch", "NDCG@10 at the end"],
        (
            [_agent(row), interval(row.cumulative, ".1f"), *map(interval, (row.regret, row.late_known, *row.ndcg))]
            for row in rows
        ),
    )


def times(rows: Sequence[Row]) -> str:
    """How long they need to each threshold."""
    thresholds = list(rows[0].times)
    header = [f"{100 * each:g}%: {what}" for each in thresholds for what in ("median", "mean steps", "there")]
    return table(["agent", *header], ([_agent(row), *_times(row)] for row in rows))


def _times(row: Row) -> list[str]:
    cells = []
    for time in row.times.values():
        median = "not reached" if time.median is None else str(time.median)
        cells += [median, f"{time.restricted_mean:.1f}", f"{100 * time.reached_share:.0f}%"]
    return cells


def costs(rows: Sequence[Row]) -> str:
    """What they took before launch."""
    return table(["agent", "paid labels", "tokens", "gradient steps"], ([_agent(row), *_before(row)] for row in rows))


def _before(row: Row) -> list[str]:
    return [f"{row.before[name]:,.0f}" for name in ("labels", "tokens", "gradient_steps")]


def cost_axis(study: Study, gamma: float) -> str:
    """llm and hybrid at every budget, from what they are without labels."""
    return table(
        ["agent", "paid labels", "tokens", "gradient steps", "average", "gain", "p (Holm)", "late"],
        (
            [
                kind,
                *_before(row),
                interval(row.average),
                _difference(row.gain),
                _p(row.adjusted),
                interval(row.late),
            ]
            for kind in ("llm", "hybrid")
            for row in by_labels(study, gamma, kind)
        ),
    )


def honest(study: Study, gamma: float) -> str:
    """The controls beside the agents, each against the agent that earned most."""
    first = max(four(study, gamma), key=lambda row: row.average.mean).contestant
    return table(
        ["who", "labels", "average", "gain", f"beyond {first.kind}", "NDCG@10 at the end", "cosine inside"],
        (
            [
                row.contestant.kind,
                f"{row.contestant.labels:,}",
                interval(row.average),
                _difference(row.gain),
                interval(study.lead(row.contestant, first), "+.3f"),
                interval(row.ndcg[1]),
                "yes" if row.contestant.kind in COSINE_INSIDE else "",
            ]
            for row in controls(study, gamma)
        ),
    )


def undiscounted(study: Study, gamma: float) -> str:
    """The agents at the configured discount and at 0, side by side; empty if there is nothing to set side by side."""
    pairs = [(row, study.row(row.contestant.kind, 0.0, row.contestant.labels)) for row in four(study, gamma)]
    if gamma == 0 or not any(zero for _, zero in pairs):
        return ""
    at = f"at {gamma:g}"
    return table(
        ["agent", f"average {at}", "average at 0", f"late {at}", "late at 0"],
        (
            [_agent(row), interval(row.average), interval(zero.average), interval(row.late), interval(zero.late)]
            for row, zero in pairs
            if zero
        ),
    )


def late(rows: Sequence[Row]) -> str:
    """Whether a lead lasts, or intervals cross."""
    baseline = next((row for row in rows if row.contestant.kind == "baseline"), None)
    return table(
        ["agent", "late, of the way", "beyond the baseline", "late on", "band above the baseline until"],
        (
            [
                _agent(row),
                interval(row.late_known),
                _difference(row.late_gain),
                _crossed(row),
                apart_until(row, baseline),
            ]
            for row in rows
            if baseline and row is not baseline
        ),
    )


def _crossed(row: Row) -> str:
    if row.late_gain is None or row.late_gain.difference.low <= 0 <= row.late_gain.difference.high:
        return "met"
    return "ahead" if row.late_gain.difference.low > 0 else "behind"


def served(rows: Sequence[Row]) -> str:
    """Whom they serve, and with what."""
    return table(
        ["agent", "coverage", "diversity", "exposure Gini"],
        ([_name(row), *(f"{each:.3f}" for each in (row.coverage, row.diversity, row.gini))] for row in rows),
    )


def exploited(rows: Sequence[Row]) -> str:
    """At launch: what is reached of the best under each reward, and the exploitation gap."""
    names = list(dict.fromkeys(name for row in rows for name in row.reached))
    reached = [[f"{row.reached[name]:.3f}" if name in row.reached else "" for name in names] for row in rows]
    gaps = ["" if row.gap is None else interval(row.gap, "+.3f") for row in rows]
    return table(
        ["agent", *(name if name == "market" else f"{name} reward" for name in names), "gap"],
        ([_agent(row), *cells, gap] for row, cells, gap in zip(rows, reached, gaps, strict=True)),
    )


def map_table(cells: Sequence[Cell]) -> str:
    """One reward of the map: who is first and by how much, a row a level, a column a budget."""
    labels = sorted({cell.labels for cell in cells})
    levels = sorted({cell.world.level for cell in cells}, reverse=True)
    at = {(cell.world.level, cell.labels): _first(cell) for cell in cells}
    return table(
        ["agreement", *(f"{each:,} labels" for each in labels)],
        ([f"{level:g}", *(at.get((level, each), "") for each in labels)] for level in levels),
    )


def map_late(cells: Sequence[Cell]) -> str:
    """Late shares of the way beyond the baseline's at the largest budget, by agreement."""
    largest = max(cell.labels for cell in cells)
    last = sorted((cell for cell in cells if cell.labels == largest), key=lambda cell: -cell.world.level)
    arms = list(last[0].late)
    return table(
        ["agreement", *arms],
        ([f"{cell.world.level:g}", *(_difference(cell.late[arm]) for arm in arms)] for cell in last),
    )


def _first(cell: Cell) -> str:
    lead = interval(cell.lead.difference, "+.3f")
    if cell.lead.difference.low > 0:
        return f"**{cell.best}** {lead} before {cell.second}"
    return f"tie: {cell.best} {lead} before {cell.second}"


def relevance(rows: Sequence[ArmRelevance], metric: str) -> str:
    """One judge's grades on one metric; p-values are of the paired difference to a reference."""
    shown = [row for row in rows if row.metric == metric]
    references = list(dict.fromkeys(name for row in shown for name in row.p))
    return table(
        ["arm", metric, *(f"p against {_cell(name)}" for name in references)],
        (
            [
                _cell(row.arm),
                interval(Estimate(row.mean, row.low, row.high)),
                *(_p(row.p.get(name)) for name in references),
            ]
            for row in shown
        ),
    )


def fairness(swings: Sequence[tuple[str, str, Swing]]) -> str:
    """What a change of the texts does to the recommendations."""
    return table(
        [
            "arm",
            "changed",
            "applicants moved",
            "size",
            "same top jobs",
            "shift of scores",
            "beyond a neutral change",
            "gain",
        ],
        (
            [
                _cell(arm),
                _cell(changed),
                f"{swing.moved} of {swing.applicants}" if swing.moved else "none: no text has such a word",
                *("" if each is None else interval(each) for each in (swing.distance, swing.overlap, swing.shift)),
                *("" if each is None else interval(each, "+.3f") for each in (swing.beyond, swing.gain)),
            ]
            for arm, changed, swing in swings
        ),
    )


def _agent(row: Row) -> str:
    return row.contestant.kind


def _name(row: Row) -> str:
    return row.contestant.name


def _cell(name: str) -> str:
    return str(escape(plain(name))).replace("|", "&#124;")


def _p(p: float | None) -> str:
    return "" if p is None else str(escape(p_value(p).removeprefix("p = ").removeprefix("p ")))


def _difference(value: Difference | None) -> str:
    return "" if value is None else interval(value.difference, "+.3f")
