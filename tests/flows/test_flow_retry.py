"""A night is tried again after an error that may pass, unless somebody looks on, and never after another."""

from __future__ import annotations

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from dynaq.errors import DynaqError, InputError, TransientError
from tasks.retry import give_up_unless_transient

tried: list[str] = []


@flow(retries=1, retry_delay_seconds=0)
@give_up_unless_transient()
def night(error: str) -> None:
    tried.append(error)
    raise {"TransientError": TransientError, "InputError": InputError, "ValueError": ValueError}[error]("no")


@pytest.fixture(autouse=True)
def _anew() -> None:
    tried.clear()


@pytest.mark.usefixtures("in_prefect")
@pytest.mark.parametrize(("error", "times"), [("TransientError", 2), ("InputError", 1), ("ValueError", 1)])
def test_a_deployed_night(error: str, times: int) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(night), f"night-{error}")
        run = client.create_flow_run_from_deployment(deployment, parameters={"error": error})
        state = run_flow(night, flow_run=run, parameters={"error": error}, return_type="state")
        assert len(tried) == times
        assert state.is_failed()
        assert client.read_flow_run(run.id).run_count == times


@pytest.mark.usefixtures("in_prefect")
def test_a_night_from_a_terminal_tells_its_error_at_once() -> None:
    with pytest.raises(DynaqError):
        night("TransientError")
    assert len(tried) == 1
