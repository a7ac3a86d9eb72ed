"""Everybody in the same simulated markets, the report, and who may challenge the champion."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from dynaq.agents import stages
from dynaq.agents.arms import arms
from dynaq.artifacts import finished
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import open_snapshot
from dynaq.errors import ArtifactError, ConfigError, InputError, LabelError, TransientError
from dynaq.evaluation.champion import Decision
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.field import Entry, Field
from dynaq.evaluation.judges.graded import ranking_path, takes_part
from dynaq.evaluation.online import online_path
from dynaq.evaluation.panel import read_panel
from dynaq.evaluation.title import Title, read_title, title_path, write_title
from dynaq.llm.endpoint import RULE_SIM, resolve_endpoint
from dynaq.rewards.llm_feedback import reward_name
from dynaq.tracking.mlflow_tracker import RunRecord
from dynaq.tracking.spool import put
from flows.alone import alone
from flows.fan_out import fan_out
from flows.night import MLflowNight, find_snapshot, mlflow_night, say_reused, stand_in_server
from tasks.champion import crown, fetch_champion, judge, pick_winner
from tasks.compare import draw_panel, measure_similarity, run_contestant
from tasks.judges import grade_lists, measure_fairness, rank_lists
from tasks.labelling import latest_audit, paid_so_far, today
from tasks.report import Labelling, Outputs, show_night, track_night, write_night


@flow
@alone
def compare(
    config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None, snapshot: Path | None = None
) -> Path:
    """Compare checkpoints that the earlier flows have written; returns the report's directory.

    Args:
        config: the same YAML file that they were trained with.
        overrides: knobs to change for this run, likewise the same.
        snapshot: directory to work on; the latest one if not given.
    """
    settings = load_config(config, overrides)
    path = find_snapshot(settings, snapshot)
    with mlflow_night(settings, f"compare {settings.name}") as night:
        return compare_arms(settings, path, night, today())


def compare_arms(settings: Config, snapshot: Path, night: MLflowNight, day: str) -> Path:
    """Run all contestants online, write the report, log both to MLflow; returns the report's directory."""
    endpoint, since = resolve_endpoint(), time.time()
    source = endpoint.provenance if endpoint else RULE_SIM
    opened = open_snapshot(snapshot)
    audit = latest_audit(settings, opened, source, day)
    field = Field(settings, opened, reward_name(source), audit.weight if audit else 1.0)
    field.check()
    with night.timed("compare"):
        panel = _panel(settings, snapshot, field, day)
        entries = list(field.entries(read_panel(panel).rewards))
        online = _run(settings, snapshot, panel, entries)
        similarity = [
            measure_similarity(settings, snapshot, arm, stages.pretrained_path(settings, opened, arm))
            for arm in arms(settings, "cosine")
            if arm.gamma == settings.agent.gamma
        ]
        graded = _rank(settings, snapshot, panel, entries)
        fairness = measure_fairness(settings, snapshot, panel, field.at_launch())
        winner = pick_winner(settings, online)
    rankings = [path for _, found in graded for paths in found.values() for path in paths]
    say_reused("compare", since, {"panels": [panel], "online runs": online, "rankings": rankings})
    outputs = Outputs(snapshot, panel, field.trained(), online, graded, fairness, similarity)
    labelling = Labelling(source, paid_so_far(settings, snapshot, source, day), audit)
    run = track_night(settings, night.run, outputs, labelling, winner)
    challenger = field.checkpoint(winner, settings.seed) if winner else None
    title, verdict = None, "No agent is shown to earn more than the baseline: nobody challenges the champion tonight."
    if winner and challenger and run:
        with night.timed("title"):
            title = _title_match(settings, outputs, field, winner, challenger, run)
        verdict = _carry_out(settings, night.run, read_title(title))
    report = write_night(settings, outputs, labelling, verdict, night.seconds)
    put(settings, night.run.model_copy(update={"artifacts": {"report": report}}))
    show_night(settings, report)
    if title:  # it has been told: who comes now with the same runs is another night, and asks anew who reigns
        shutil.rmtree(title, ignore_errors=True)
    return report


def _carry_out(config: Config, night: RunRecord, title: Title) -> str:
    """What becomes of the challenger, in words; a decision that MLflow does not hear is none."""
    tags = {"night": config.name, "verdict": "none: its night got to no decision"}
    name = title.run.rpartition("/")[2]
    put(config, RunRecord(key=title.run, name=name, started=night.started, version=tags))
    try:
        return crown(config, title.run, title.decision, title.met)
    except (ArtifactError, ConfigError, TransientError) as error:
        get_run_logger().warning("no champion is changed: %s", error)
        return (
            f"No champion is changed tonight, for {error}. What would have been decided: {title.decision.reason}. The"
            " challenger is registered once MLflow answers, and has to win again to become the champion."
        )


def _panel(config: Config, snapshot: Path, field: Field, day: str) -> Path:
    """The panel, with the LLM's labels where the dial asks for them and they can be had: a map is not worth a night."""
    if field.wants_labelled_panel:
        log, pairs = get_run_logger(), 2 * config.compare.applicants * config.compare.jobs
        log.info("the map asks for the labels of at most %d pairs of the panel, once", pairs)
        try:
            with stand_in_server() as stand_in:
                return draw_panel(config, snapshot, stand_in, f"evaluator {day}", labelled=True)
        except (LabelError, TransientError) as error:
            log.warning("no market is dialled towards the LLM tonight: %s", error)
    return draw_panel(config, snapshot, None, "", labelled=False)


def _title_match(
    config: Config, outputs: Outputs, field: Field, winner: Contestant, challenger: Path, run: str
) -> Path:
    """Challenger and champion, without one the baseline, in fresh markets; returns where the decision is written down.

    A champion that cannot be used ends no night, nor its reign. An earlier try of this night that came to a decision
    may have carried it out: it holds, whoever reigns by now.
    """
    target, log = title_path(config, outputs.online, challenger), get_run_logger()
    if finished(target, config.work_path):
        log.info("an earlier try of this night has decided about the champion: its decision holds")
        return target
    markets, met = field.fresh_seeds(challenger), None
    entry = field.contender("challenger", challenger, markets)
    online = _run(config, outputs.snapshot, outputs.panel, [entry])
    try:
        met = _reigning(config)
        rival = field.contender("champion" if met else "baseline", met, markets)
        online += _run(config, outputs.snapshot, outputs.panel, [rival])
        decision = judge(config, online, winner, challenger, met)
    except (ArtifactError, ConfigError, InputError) as error:
        log.warning("the champion cannot be used: %s", error)
        decision = Decision(False, f"the champion was not met: {error}")
    write_title(target, Title(decision, run, met))
    return target


def _reigning(config: Config) -> Path | None:
    """The champion's checkpoint, None without one. An MLflow that is gone ends no night, a lost process does."""
    try:
        return fetch_champion(config)
    except TransientError as error:
        raise ArtifactError(str(error)) from error


def _run(config: Config, snapshot: Path, panel: Path, entries: Iterable[Entry]) -> list[Path]:
    """All runs of these contestants, each contestant and seed a task; returns their result directories."""
    shared = {"config": config, "snapshot": snapshot, "panel": panel}
    calls: dict[tuple[Contestant, int], dict[str, Any]] = {
        (entry.contestant, seed): {
            **shared,
            "contestant": entry.contestant,
            "worlds": entry.worlds,
            "seed": seed,
            "start": start,
        }
        for entry in entries
        for seed, start in entry.starts.items()
    }
    opened = open_snapshot(snapshot)

    def results(key: tuple[Contestant, int]) -> list[Path]:
        call = calls[key]
        return [online_path(config, opened, panel, key[0], world, key[1], call["start"]) for world in call["worlds"]]

    return [path for paths in fan_out(run_contestant, calls, config, results).values() for path in paths]


def _rank(
    config: Config, snapshot: Path, panel: Path, entries: Iterable[Entry]
) -> list[tuple[Path, dict[Contestant, list[Path]]]]:
    """Graded lists, each with the rankings of all contestants, one a seed."""
    lists = grade_lists(config, snapshot)
    if not lists:
        return []
    shared = {"config": config, "snapshot": snapshot, "panel": panel, "lists": lists}
    entries = [entry for entry in entries if takes_part(entry.contestant, config.agent.gamma)]
    calls: dict[tuple[Contestant, int], dict[str, Any]] = {
        (entry.contestant, seed): {**shared, "contestant": entry.contestant, "seed": seed, "start": start}
        for entry in entries
        for seed, start in entry.starts.items()
    }
    found = fan_out(
        rank_lists,
        calls,
        config,
        results=lambda key: [ranking_path(config, each, *key, calls[key]["start"]) for each in lists],
    )
    return [
        (each, {e.contestant: [found[e.contestant, seed][row] for seed in e.starts] for e in entries})
        for row, each in enumerate(lists)
    ]
