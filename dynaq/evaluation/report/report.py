"""The report of a night: Markdown for MLflow and Prefect, and one HTML file without outside resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dynaq.artifacts import code_version
from dynaq.config import Config
from dynaq.data.manifest import Manifest
from dynaq.evaluation.judges.judged import ArmRelevance
from dynaq.evaluation.report import lineup, tables, words
from dynaq.evaluation.report.figures import figures_json
from dynaq.evaluation.report.night import Night
from dynaq.evaluation.report.page import page
from dynaq.evaluation.report.pictures import Picture, pictures
from dynaq.evaluation.report.plots import DARK, LIGHT, png
from dynaq.evaluation.report.tables import plain
from dynaq.llm.endpoint import RULE_SIM


def write_report(night: Night, directory: Path) -> Path:
    """Write report.md, report.html, its figures, their numbers and the configuration; returns the HTML file."""
    drawn = pictures(night)
    images = {name: (png(each.draw(LIGHT)), png(each.draw(DARK))) for name, each in drawn.items()}
    for name, (light, _) in images.items():
        (directory / name).write_bytes(light)
    (directory / "figures.json").write_text(figures_json(night), encoding="utf-8")
    (directory / "config.yaml").write_text(yaml.safe_dump(_repeatable(night.config), sort_keys=False))
    text = render_markdown(night, drawn)
    (directory / "report.md").write_text(text, encoding="utf-8")
    html = directory / "report.html"
    html.write_text(page(text, night.config.name, images), encoding="utf-8")
    return html


def render_markdown(night: Night, drawn: dict[str, Picture]) -> str:
    """The report as Markdown; figures are linked by file name."""
    # Names come from documents and the environment: escaped, they are text in Markdown and in HTML alike.
    environment = Environment(
        loader=PackageLoader("dynaq.evaluation.report"), undefined=StrictUndefined, autoescape=True
    )
    environment.filters["plain"] = plain
    manifest, study, gamma = night.manifest, night.study, night.config.agent.gamma
    shares = [(s.trained / s.best, s.untrained / s.best, s.random / s.best) for s in night.similarity]
    trained, untrained, cosine_random = (sum(column) / len(column) for column in zip(*shares, strict=True))
    agents, others = lineup.four(study, gamma), lineup.controls(study, gamma)
    largest = max(lineup.budgets(study, gamma), default=0)
    return environment.get_template("report.md.j2").render(
        night=night,
        study=study,
        compare=night.config.compare,
        m=manifest,
        t=tables,
        verdict=words.verdict(study, gamma),
        warnings=Markup("\n>\n".join(f"> {line}" for line in _warnings(night))),  # noqa: S704
        figures=lambda *prefixes: _links(drawn, prefixes),
        agreement=_agreement(study.agreement),
        panels=lineup.panels(study),
        no_map=Markup(words.no_map(study, night.config.compare.dial)),  # noqa: S704 - words of ours
        gamma=f"{gamma:g}",
        gamma_value=gamma,
        largest=largest,
        agents=agents,
        others=[*agents, *others],
        random=next(row for row in others if row.contestant.kind == "random"),
        optimum=next(row for row in others if row.contestant.kind == "optimum"),
        controls=[(kind, lineup.CONTROLS[kind]) for kind in dict.fromkeys(row.contestant.kind for row in others)],
        table_zero=Markup(tables.undiscounted(study, gamma)),  # noqa: S704 - numbers and names of ours
        planning=Markup(words.planning(study, gamma)),  # noqa: S704
        metrics=_metrics,
        s=night.similarity[0],
        trained=trained,
        untrained=untrained,
        cosine_random=cosine_random,
        stand_in_note=", a rule-based stand-in and no LLM" if night.stand_in else "",
        missing=", ".join(f"{name} {count:,}" for name, count in night.missing.items() if count),
        encoders=", ".join(sorted({name for side in manifest.encoders.values() for name in side})),
        cosine=_cosine(manifest),
        quarantined=_quarantined(manifest),
        code=code_version(),
        seconds=", ".join(f"{stage} {value:.0f}" for stage, value in night.seconds.items()) or "not measured",
    )


def _links(drawn: dict[str, Picture], prefixes: tuple[str, ...]) -> Markup:
    """The figures whose names begin so, a line each."""
    links = [
        f"![{escape(plain(picture.title))}]({name})"
        for prefix in prefixes
        for name, picture in drawn.items()
        if name.startswith(prefix)
    ]
    return Markup("\n".join(links))  # noqa: S704 - escaped above


def _warnings(night: Night) -> list[str]:
    """What a reader must know before believing a figure."""
    lines = [line for line in (words.quick_look(night.study),) if line]
    lines.append(
        "Nobody has clicked: all agents met a **simulated market** that none was trained on. What pays there need not"
        " pay with your applicants."
    )
    if night.generated:
        lines.append(
            "The postings and applicants are **generated**: these figures show that the pipeline works, not that a"
            " warm start pays on a real platform."
        )
    if night.stand_in:
        lines.append(f"The LLM labels come from **{RULE_SIM}**, a rule-based stand-in, not from an LLM.")
    if night.config.agent.features in ("cosine", "residual"):
        lines.append("Every agent has the cosine inside (agent.features), the baseline too: it is then no cold start.")
    pilot = night.config.agent.hand_over.pilot
    if waiting := [labels for labels in lineup.budgets(night.study, night.config.agent.gamma) if labels <= pilot]:
        lines.append(
            f"hybrid with {words.listed([str(each) for each in waiting])} labels is the cosine still: it learns after a"
            f" pilot of {pilot} answers (agent.hand_over.pilot)."
        )
    if not night.trusted:
        lines.append(f"The LLM labels did not pass their audit. {escape(plain(night.audit))}")
    return lines


def _agreement(agreement: dict[str, float]) -> str:
    return words.listed([f"the {name} reward at {value:.2f}" for name, value in agreement.items()]) if agreement else ""


def _metrics(rows: list[ArmRelevance]) -> list[str]:
    return list(dict.fromkeys(row.metric for row in rows))


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
