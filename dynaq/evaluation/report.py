"""The report of a night: Markdown for MLflow and Prefect, and one HTML file without outside resources."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import markdown
import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from dynaq.artifacts import code_version
from dynaq.config import Config
from dynaq.data.manifest import Manifest
from dynaq.evaluation.metrics import Curve, Estimate, paired_difference
from dynaq.evaluation.plots import learning_curves, training_curves
from dynaq.evaluation.similarity import SimilarityReached
from dynaq.evaluation.summary import ArmSummary, Comparison
from dynaq.llm.endpoint import RULE_SIM


@dataclass(frozen=True)
class Night:
    """All that a report tells.

    Attributes:
        config: of the night.
        manifest: of the snapshot.
        comparison: the arms side by side.
        similarity: pre-training quality by seed, at the configured discount.
        training: label of a quantity -> agent -> curve, for the training figure.
        label_source: provenance of the LLM labels.
        label_cost: calls made, labels taken from the store, missing by kind, tokens: summed over agents and seeds.
        account: what has been paid for labels on this snapshot today, and what is left of the budget.
        audit: what asking the LLM again has shown; empty without an audit.
        trusted: whether the labels passed it.
        seconds: how long each stage before the comparison took.
    """

    config: Config
    manifest: Manifest
    comparison: Comparison
    similarity: list[SimilarityReached]
    training: dict[str, dict[str, Curve]]
    label_source: str
    label_cost: dict[str, int]
    account: str
    audit: str
    trusted: bool
    seconds: dict[str, float]


_TEMPLATE = """\
# dynaq: {{ night.config.name|plain }}

**{{ verdict }}**

The numbers are interactions per job shown, beyond those of the agent without a warm start, with 95% intervals.

{{ warnings }}

## Online comparison at gamma {{ gamma }}

{{ table }}

Rewards are interactions per job shown, in a simulated market that no agent was trained on. Random choice among the
same candidates earns {{ "%.3f"|format(c.random_average) }}, the best choice {{ "%.3f"|format(c.optimum_average) }}.
Intervals: 95%, Student's t over {{ c.seeds }} seeds x {{ c.applicants }} held-out applicants x {{ c.steps }} steps;
the difference to the baseline is paired by seed. First steps: the first {{ compare.window }}.
Time: steps until the trailing mean of {{ compare.window }} steps
holds {{ "%.0f"|format(100 * compare.threshold_share) }}% of the way from random to the best (median; in brackets the
seeds that got there). Late: the last {{ "%.0f"|format(100 * compare.late_share) }}% of the steps.
Labels: distinct ones consumed.

![Learning curves of the four agents](learning_curves.png)
{% if table_zero %}
## The same without discounting (gamma 0)

With a state that stands still, the optimal ranking does not depend on gamma: where the two tables differ by more than
their intervals, the discount has cost something.

{{ table_zero }}
{% endif %}
## Pre-training

Mean cosine of the greedy choice for {{ s.applicants }} held-out applicants, as a share of the best among the same
candidates (mean over {{ night.similarity|length }} seeds): **trained {{ "%.3f"|format(trained) }}**, untrained network
{{ "%.3f"|format(untrained) }}, random {{ "%.3f"|format(random) }}.

![Training curves](training_curves.png)

## What the labels cost

Source: **{{ night.label_source|plain }}**{{ stand_in_note }}. Summed over agents, discounts and seeds, when their
checkpoints were trained, which may have been an earlier night.
{% for name, count in night.label_cost.items() %}
- {{ name.replace("_", " ") }}: {{ "{:,}".format(count) }}
{%- endfor %}

Paid on this snapshot today, the audit included: {{ night.account|plain }}.
{% if night.audit %}
Audit: {{ night.audit|plain }}
{% endif %}
## Provenance

- Snapshot `{{ m.digest[:16] }}` of {{ m.created }}: {{ m.applicants }} applicants, {{ m.jobs }} jobs; generated:
  {{ m.generated.applicants }} applicants, {{ m.generated.jobs }} jobs
- Vectors: applicants {{ m.applicant_fields|join(", ") }}; jobs {{ m.job_fields|join(", ") }}; {{ m.dimension }}-d each;
  encoders {{ encoders|plain }}
- Cosine reward: {{ cosine|plain }}
- Quarantined: {{ quarantined|plain }}
- Code {{ code }}; seeds {{ night.config.seed }} to {{ night.config.seed + c.seeds - 1 }}
- Seconds a stage: {{ seconds }}

The configuration of this night, whole, lies beside this report as config.yaml; `--config` takes it as it is.
"""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #8886; text-align: left; white-space: nowrap; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
code { background: #8882; padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
"""


def write_report(night: Night, directory: Path) -> Path:
    """Write report.md, report.html and the figures into a directory; returns the HTML file."""
    learning_curves(
        {arm.agent: arm.curve for arm in night.comparison.of(night.config.agent.gamma)},
        {"random": night.comparison.random, "optimum": night.comparison.optimum},
        directory / "learning_curves.png",
        "Who starts warm, and who learns",
        _note(night),
    )
    training_curves(night.training, directory / "training_curves.png", "Training before launch", _note(night))
    (directory / "config.yaml").write_text(yaml.safe_dump(_repeatable(night.config), sort_keys=False))
    text = render_markdown(night)
    (directory / "report.md").write_text(text, encoding="utf-8")
    html = directory / "report.html"
    html.write_text(_html(text, night.config.name, directory), encoding="utf-8")
    return html


def render_markdown(night: Night) -> str:
    """The report as Markdown; figures are linked by file name."""
    # Names come from documents and the environment: escaped, they are text in Markdown and in HTML alike.
    environment = Environment(undefined=StrictUndefined, autoescape=True)
    environment.filters["plain"] = _plain
    template = environment.from_string(_TEMPLATE)
    manifest, c = night.manifest, night.comparison
    gamma = night.config.agent.gamma
    shares = [(s.trained / s.best, s.untrained / s.best, s.random / s.best) for s in night.similarity]
    trained, untrained, random = (sum(column) / len(column) for column in zip(*shares, strict=True))
    return template.render(
        night=night,
        verdict=verdict(c, gamma),
        warnings=Markup("\n>\n".join(f"> {line}" for line in _warnings(night))),  # noqa: S704
        gamma=f"{gamma:g}",
        table=Markup(table(c.of(gamma))),  # noqa: S704 - numbers and names of ours
        table_zero=Markup(table(c.of(0.0)) if gamma != 0 else ""),  # noqa: S704
        c=c,
        compare=night.config.compare,
        s=night.similarity[0],
        trained=trained,
        untrained=untrained,
        random=random,
        stand_in_note=", a rule-based stand-in and no LLM" if RULE_SIM in night.label_source else "",
        m=manifest,
        encoders=", ".join(sorted({name for side in manifest.encoders.values() for name in side})),
        cosine=_cosine(manifest),
        quarantined=_quarantined(manifest),
        code=code_version(),
        seconds=", ".join(f"{stage} {value:.0f}" for stage, value in night.seconds.items()) or "not measured",
    )


def _plain(name: str) -> str:
    """A name that stays text in Markdown: no picture, link, code or emphasis."""
    return re.sub(r"([\\`*\[\]!])", r"\\\1", name)


def verdict(comparison: Comparison, gamma: float) -> str:
    """What the paired 95% intervals against the baseline, and between the first two, allow to say."""
    arms = [arm for arm in comparison.of(gamma) if arm.agent != "baseline"]
    better = sorted((arm for arm in arms if arm.gain.low > 0), key=lambda arm: -arm.gain.mean)
    worse = [arm for arm in arms if arm.gain.high < 0]
    harm = f" Worse than none: {_gains(worse)}." if worse else ""
    if not better:
        return f"No warm start is better than none here.{harm}"
    if len(better) == 1:
        return f"{better[0].agent} is the one warm start that pays: {_gains(better)}.{harm}"
    first, second = better[:2]
    lead = paired_difference(first.metrics.average_reward, second.metrics.average_reward)
    if lead.low > 0:
        return f"{first.agent} pays most, {_interval(lead, '+.3f')} ahead of {second.agent}: {_gains(better)}.{harm}"
    return (
        f"{first.agent} and {second.agent} cannot be told apart at the top, {_interval(lead, '+.3f')} between them:"
        f" {_gains(better)}.{harm}"
    )


def _gains(arms: list[ArmSummary]) -> str:
    """Interactions per job shown more than the baseline's."""
    return ", ".join(f"{arm.agent} {_interval(arm.gain, '+.3f')}" for arm in arms)


def table(arms: list[ArmSummary]) -> str:
    """The comparison as a Markdown table, one row an agent."""
    rows = [
        "| agent | first steps | average per step | cumulative | late | time to threshold | vs baseline | labels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        times = arm.metrics.time_to_threshold
        reached = sum(time is not None for time in times)
        median = arm.metrics.median_time
        time = f"{median:g}" if median is not None else "not reached"
        gain = "" if arm.agent == "baseline" else _interval(arm.gain, "+.3f")
        rows.append(
            f"| {arm.agent} | {_interval(arm.jump_start)} | {_interval(arm.average)} | {arm.cumulative.mean:.1f} |"
            f" {_interval(arm.late)} | {time} ({reached}/{len(times)}) | {gain} | {arm.labels:.0f} |"
        )
    return "\n".join(rows)


def _interval(value: Estimate, form: str = ".3f") -> str:
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _note(night: Night) -> str:
    market = "generated market; " if sum(night.manifest.generated.values()) else ""
    stand_in = " (a rule-based stand-in)" if RULE_SIM in night.label_source else ""
    return f"{market}LLM labels by {night.label_source}{stand_in}; {night.comparison.seeds} seeds, 95% bands"


def _warnings(night: Night) -> list[str]:
    """What a reader must know before believing a figure."""
    lines = []
    if sum(night.manifest.generated.values()):
        lines.append(
            "The postings and applicants are **generated**: these figures show that the pipeline works, not that a"
            " warm start pays on a real platform."
        )
    if RULE_SIM in night.label_source:
        lines.append(f"The LLM labels come from **{RULE_SIM}**, a rule-based stand-in, not from an LLM.")
    if not night.trusted:
        lines.append(f"The LLM labels did not pass their audit. {escape(_plain(night.audit))}")
    return lines


def _cosine(manifest: Manifest) -> str:
    if manifest.cosine.kind == "pairs":
        return "mean over " + ", ".join(f"({a}, {j})" for a, j in manifest.cosine.pairs)
    return "of the two concatenations"


def _quarantined(manifest: Manifest) -> str:
    rows = [
        f"{count} of {collection} ({reason})"
        for collection, reasons in manifest.quarantined.items()
        for reason, count in reasons.items()
    ]
    return ", ".join(rows) or "none"


def _repeatable(config: Config) -> dict[str, Any]:
    """The configuration as a file that ``--config`` takes; where MLflow lives is not part of it."""
    whole = config.model_dump()
    whole["tracking"]["uri"] = None
    return whole


def _html(text: str, title: str, directory: Path) -> str:
    body = markdown.markdown(text, extensions=["tables"])

    def inline(match: re.Match[str]) -> str:
        image = base64.b64encode((directory / match.group(1)).read_bytes()).decode()
        return f'src="data:image/png;base64,{image}"'

    body = re.sub(r'src="([\w.]+\.png)"', inline, body)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>dynaq: {escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )
