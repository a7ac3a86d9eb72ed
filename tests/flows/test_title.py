"""The title match: who is better reigns; a night that dies after the crowning tells of it when tried again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import flow

from dynaq.agents.arms import Arm
from dynaq.agents.stages import pretrain
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import TransientError
from dynaq.evaluation.champion import Decision
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.field import Field
from dynaq.evaluation.panel import make_panel
from dynaq.evaluation.title import Title, read_title, title_path
from dynaq.tracking.mlflow_tracker import RunRecord
from dynaq.tracking.spool import put
from flows.compare import _carry_out, _title_match
from flows.night import mlflow_night
from tasks.report import Outputs
from tests.paths import BASE_CONFIG

SMALL = {
    "agent.hidden": [32],
    "agent.learning_rate": 0.005,
    "agent.batch_size": 32,
    "agent.hand_over.pilot": 10,
    "pretrain": {"steps": 150, "applicants_per_step": 32, "updates_per_step": 3},
    "compare.seeds": 8,
    "compare.applicants": 18,
    "compare.steps": 3,
    "compare.window": 1,
}


@pytest.mark.usefixtures("in_prefect")
def test_a_night_that_dies_after_the_crowning_tells_of_it_when_tried_again(
    small_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path), **SMALL})
    trained, panel = (
        pretrain(config, small_snapshot, Arm("cosine", 0.3, 0)),
        make_panel(config, small_snapshot, None, {}),
    )
    checkpoint = trained.rename(trained.with_name("cosine"))  # whose fresh markets are the same in every version
    runs = [tmp_path / "online" / "own" / "cosine-s0"]
    outputs = Outputs(small_snapshot.path, panel, {}, runs, [], [], [])
    field, cosine = Field(config, small_snapshot, "none", 0.0), Contestant("cosine", 0.3)

    @flow
    def night() -> str:
        """From the end of the comparison to the crowning; the report is written by nobody."""
        with mlflow_night(config, "a night") as tonight:
            run = f"{tonight.run.key}/cosine-s0"
            put(config, RunRecord(key=run, name="cosine-s0", started=1, artifacts={"checkpoint": checkpoint}))
            return _carry_out(
                config, tonight.run, read_title(_title_match(config, outputs, field, cosine, checkpoint, run))
            )

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")

    def registered() -> tuple[dict[str, int], list[str]]:
        verdicts = [version.tags["verdict"] for version in client.search_model_versions("name = 'dynaq'")]
        return client.get_registered_model("dynaq").aliases, verdicts

    lost: list[str] = []

    def losing(task: Any, calls: Any, *_: Any) -> dict[Any, Any]:
        if not lost and any(contestant.kind == "baseline" for contestant, _ in calls):
            lost.append("a process")
            raise TransientError("a process of the pool was killed")
        return {key: task.fn(**call) for key, call in calls.items()}

    # In this process; test_fan_out is about others.
    monkeypatch.setattr("flows.compare.fan_out", losing)
    with pytest.raises(TransientError, match="was killed"):  # no defeat: it is tried again
        night()
    undisturbed = night()
    assert undisturbed.startswith("version 1 of dynaq is the champion now: cosine is +0.2")
    assert undisturbed.endswith("ahead of the baseline in 8 fresh markets, which lies above 0")
    crowned = registered()
    assert crowned[0] == {"challenger": 1, "champion": 1}

    assert night() == undisturbed  # it had died there
    assert registered() == crowned
    seeds = sorted(field.fresh_seeds(checkpoint), key=str)
    met = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "online" / "own").iterdir())
    assert met == [f"{kind}-g0.3-n0-s{seed}" for kind in ("baseline", "challenger") for seed in seeds]

    shutil.rmtree(title_path(config, runs, checkpoint))  # as a night does whose report is out
    assert night() == "version 2 of dynaq stays a challenger: cosine is the champion already: its weights are the same"
    assert registered()[0] == {"challenger": 2, "champion": 1}
    assert crowned[1][0] in registered()[1]


@pytest.mark.usefixtures("in_prefect")
def test_a_better_one_takes_the_title_and_a_worse_one_does_not(
    small_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path), **SMALL})
    untaught = load_config(BASE_CONFIG, {"workdir": str(tmp_path), **SMALL, "pretrain.steps": 1})
    panel = make_panel(config, small_snapshot, None, {})
    weak, good, bad = (
        pretrain(each, small_snapshot, Arm("cosine", 0.3, seed)).rename(tmp_path / "checkpoints" / name)
        for each, seed, name in ((untaught, 0, "weak"), (config, 0, "good"), (untaught, 1, "bad"))
    )
    monkeypatch.setattr("flows.compare.fan_out", lambda task, calls, *_: {key: task.fn(**calls[key]) for key in calls})

    @flow
    def night(challenger: Path) -> str:
        """The title match; the first champion is crowned without one."""
        outputs = Outputs(small_snapshot.path, panel, {}, [tmp_path / challenger.name], [], [], [])
        field, agent = Field(config, small_snapshot, "none", 0.0), Contestant("cosine", 0.3)
        with mlflow_night(config, challenger.name) as tonight:
            run = f"{tonight.run.key}/{challenger.name}"
            put(config, RunRecord(key=run, name=challenger.name, started=1, artifacts={"checkpoint": challenger}))
            if challenger == weak:
                return _carry_out(config, tonight.run, Title(Decision(True, "by birth"), run, None))
            return _carry_out(
                config, tonight.run, read_title(_title_match(config, outputs, field, agent, challenger, run))
            )

    assert night(weak) == "version 1 of dynaq is the champion now: by birth"
    verdicts = [night(challenger) for challenger in (good, bad)]
    lead = r"cosine is ([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\] (.*)"
    ahead, behind = (re.search(lead, each) for each in verdicts)
    assert ahead
    assert behind
    assert verdicts[0].startswith("version 2 of dynaq is the champion now: ")
    assert float(ahead[2]) > 0.05
    assert ahead[4] == "ahead of the champion in 8 fresh markets, which lies above the margin of 0.01"
    assert verdicts[1].startswith("version 3 of dynaq stays a challenger: ")
    assert float(behind[3]) < 0
    assert behind[4] == "ahead of the champion in 8 fresh markets, which does not lie above the margin of 0.01"
    aliases = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_registered_model("dynaq").aliases
    assert aliases == {"champion": 2, "challenger": 3}


def test_another_night_has_another_title(tmp_path: Path) -> None:
    """Fresh runs have other names, and a champion is that of an experiment."""
    paths = {
        title_path(load_config(BASE_CONFIG, {"workdir": str(tmp_path), "tracking.experiment": name}), runs, challenger)
        for name in ("dynaq", "other")
        for runs in ([Path("cosine-s0-1")], [Path("cosine-s0-2")])
        for challenger in (Path("one"), Path("two"))
    }
    assert len(paths) == 8
