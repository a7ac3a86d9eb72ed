"""The champion between MLflow and the comparison."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from dynaq.artifacts import finished, publish
from dynaq.config import Config
from dynaq.errors import ArtifactError
from dynaq.evaluation.champion import Decision, Rival, decide, find_winner, lead_over
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.online import read_online
from dynaq.evaluation.study.summary import summarise
from dynaq.tracking.checkpoint import read_manifest
from dynaq.tracking.mlflow_tracker import Tracker
from dynaq.tracking.registry import Registered, Registry
from dynaq.tracking.spool import deliver
from tasks.retry import RETRY


@task(**RETRY)
def fetch_champion(config: Config) -> Path | None:
    """The checkpoint directory of the present champion, downloaded once; None before the first."""
    registry = Registry(config)
    champion = registry.champion()
    if champion is None:
        return None
    target = _place(config, champion)
    if not finished(target, config.work_path):
        with publish(target) as directory:
            registry.fetch(champion, directory)
    return target


def _place(config: Config, champion: Registered) -> Path:
    return config.work_path / "champions" / f"{champion.version}-{champion.weights[:16]}"


@task(**RETRY)
def pick_winner(config: Config, online: list[Path]) -> Contestant | None:
    """Who challenges the champion tonight; None if no agent is shown to earn more than the baseline."""
    study = summarise([read_online(path) for path in online], config.compare, config.agent.gamma)
    return find_winner(study, config.agent.gamma)


@task(**RETRY)
def judge(config: Config, online: list[Path], winner: Contestant, challenger: Path, champion: Path | None) -> Decision:
    """Whether the challenger becomes the champion, by the markets in which it met it, or without one the baseline."""
    weights = {path: read_manifest(path).weights for path in (challenger, champion) if path}
    rival: Rival = "champion" if champion else "baseline"
    lead = lead_over(rival, [read_online(path) for path in online])
    same = champion is not None and weights[challenger] == weights[champion]
    return decide(winner.name, rival, lead, config.compare.margin, same_weights=same)


@task(**RETRY)
def crown(config: Config, key: str, decision: Decision, met: Path | None) -> str:
    """Deliver the night so far, and carry the decision out; returns a sentence for the report.

    Args:
        config: of the night.
        key: of the challenger's run.
        decision: about the champion that the challenger has met.
        met: that champion's checkpoint; should another one reign by now, it stays.

    Raises:
        ArtifactError: MLflow did not take the challenger's run.
        TransientError: MLflow does not answer: nothing is decided, unless it was at the very last and went unheard.
    """
    deliver(config)
    registry, run_id = Registry(config), Tracker(config).run_id(key)
    if run_id is None:
        raise ArtifactError(f"MLflow has no run {key}, which waits in {config.work_path / 'spool'}")
    challenger = registry.register(run_id, {})
    champion = registry.champion()
    if decision.promote and champion and champion.version != challenger.version and _place(config, champion) != met:
        decision = Decision(False, f"{champion} has become the champion meanwhile, which it has not met")
    if decision.promote and (left := registry.rolled_back(challenger.weights)):
        decision = Decision(False, f"its weights are those of {left}, which was rolled back")
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
