"""What Prefect knows after `make services` has registered: a schedule, told anew, and what each parameter means."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from dynaq.config import NightConfig
from dynaq.errors import ConfigError
from flows.__main__ import FLOWS
from flows.register import register
from tests.paths import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("in_prefect")
def test_registered_twice_the_last_schedule_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    def tell(cron: str, zone: str) -> None:
        night = NightConfig(cron=cron, timezone=zone, longest_h=12, on_busy="wait")
        register("dynaq", night, "night.yaml", tmp_path / "log")

    tell("0 2 * * *", "UTC")
    tell("30 4 * * 1-5", "Europe/Berlin")
    with get_client(sync_client=True) as client:
        deployed = {name: client.read_deployment_by_name(f"{name}/{name}") for name in FLOWS}
    nightly = deployed["nightly"]
    (schedule,) = (each.schedule for each in nightly.schedules)
    assert (schedule.cron, schedule.timezone) == ("30 4 * * 1-5", "Europe/Berlin")
    assert nightly.global_concurrency_limit is not None
    assert nightly.global_concurrency_limit.limit == 1
    assert nightly.tags == ["dynaq"]
    assert nightly.parameters == {"config": "night.yaml"}
    for name, deployment in deployed.items():
        assert deployment.job_variables["env"] == {"PREFECT_RESULTS_DEFAULT_SERIALIZER": "json"}
        for parameter, schema in deployment.parameter_openapi_schema["properties"].items():
            assert schema.get("description"), f"{name} does not say what {parameter} is"
    with pytest.raises(ConfigError, match="Prefect did not take the deployments"):
        tell("0 2 LW * *", "UTC")  # Prefect's own parser knows no last weekday
    assert "LW" in (tmp_path / "log").read_text()
