"""The champion between MLflow and the comparison."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from dynaq.artifacts import finished, publish
from dynaq.config import Config
from dynaq.evaluation.champion import Decision, decide, find_winner, lead_over_champion
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.online import read_online
from dynaq.evaluation.summary import summarise
from dynaq.tracking.checkpoint import read_manifest
from dynaq.tracking.registry import Registry
from tasks.retry import RETRY


@task(**RETRY)
def fetch_champion(config: Config) -> Path | None:
    """The checkpoint directory of the present champion, downloaded once; None before the first."""
    registry = Registry(config)
    champion = registry.champion()
    if champion is None:
        return None
    target = config.work_path / "champions" / f"{champion.version}-{champion.weights[:16]}"
    if not finished(target, config.work_path):
        with publish(target) as directory:
            registry.fetch(champion, directory)
    return target


@task(**RETRY)
def pick_winner(config: Config, online: list[Path]) -> Contestant | None:
    """Who challenges the champion tonight; None if no agent earned more than the baseline."""
    study = summarise([read_online(path) for path in online], config.compare, config.agent.gamma)
    return find_winner(study, config.agent.gamma)


@task(**RETRY)
def judge(config: Config, online: list[Path], winner: Contestant, challenger: Path, champion: Path | None) -> Decision:
    """Whether the challenger becomes the champion, by the markets that both have met tonight."""
    weights = {path: read_manifest(path).weights for path in (challenger, champion) if path}
    lead = lead_over_champion([read_online(path) for path in online])
    same = champion is not None and weights[challenger] == weights[champion]
    return decide(winner.name, lead, config.compare.margin, same_weights=same)


@task(**RETRY)
def crown(config: Config, run_id: str, decision: Decision) -> str:
    """Register the winner's run as the challenger and carry the decision out; returns a sentence for the report."""
    registry = Registry(config)
    challenger = registry.register(run_id, {"night": config.name})
    if decision.promote:
        registry.promote(challenger, decision.reason)
        return f"{challenger} is the champion now: {decision.reason}"
    registry.decline(challenger, decision.reason)
    return f"{challenger} stays a challenger: {decision.reason}"


@task  # not tried again: had the first try gone through unheard, a second would go one step further back
def roll_back(config: Config) -> str:
    """Make the champion before the present one the champion again; returns a sentence that names both."""
    registry = Registry(config)
    left = registry.champion()
    return f"champion is now {registry.roll_back()}, was {left}"
