"""What a night stands on, a line for each part: ``python -m flows doctor --config <file>``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import metadata, requires

from dynaq.config import Config
from dynaq.doctor.finding import Check, Finding, examine
from dynaq.doctor.machine import check_locale, check_packages, check_python, check_workdir, needed_extras

_LIMIT_S = 10.0

# Shows what a check has found, and says whether it passed.
_Passes = Callable[..., bool]


def doctor(config: Config, api: str | None, show: Callable[[str], None] = print) -> int:
    """Check every part; what rests on one that failed is not looked at.

    Args:
        config: of the night.
        api: address of the Prefect server; None where a flow starts its own.
        show: takes each line.

    Returns:
        The exit status: 0, or 2 if something has failed.
    """
    failed = []

    def passes(name: str, check: Check, limit_s: float = _LIMIT_S) -> bool:
        finding = examine(check, limit_s)
        show(finding.line(name))
        if finding.status == "FAIL":
            failed.append(name)
        return finding.status != "FAIL"

    passes("python", lambda: check_python(metadata("dynaq")["Requires-Python"]))
    passes("packages", lambda: check_packages(requires("dynaq") or [], needed_extras(config)))
    passes("encoding", check_locale)
    usable = passes("workdir", partial(check_workdir, config.work_path))
    try:
        _check_parts(config, api, usable, passes)
    except ImportError as error:
        fault = Finding("FAIL", f"nothing else can be looked at: {error}", "install what is missing")
        passes("imports", lambda: fault)
    return 2 if failed else 0


def _check_parts(config: Config, api: str | None, usable: bool, passes: _Passes) -> None:
    """Whatever takes packages to look at. ImportError: one of them is missing."""
    from dynaq.data.embedded import START_S
    from dynaq.doctor.dask import check_dask
    from dynaq.doctor.disk import check_disk
    from dynaq.doctor.llm import check_judge, check_llm
    from dynaq.doctor.mongodb import check_collection, check_mongodb, sources
    from dynaq.doctor.tracking import check_mlflow
    from flows.prefect_checks import check_deployment, check_schedule, check_server

    if usable:
        passes("disk", partial(check_disk, config.work_path))
    # An embedded server that recovers from a crash takes its time.
    if passes("mongodb", partial(check_mongodb, config), _LIMIT_S + START_S):
        for source in sources(config):
            passes(source.name, partial(check_collection, config, source), _LIMIT_S + START_S)
    passes("llm", check_llm)
    if config.judge:
        passes("judge", check_judge)
    passes("mlflow", partial(check_mlflow, config))
    if config.dask not in (None, "local"):
        passes("dask", partial(check_dask, config.dask))
    if passes("prefect", partial(check_server, api)) and api:
        passes("nightly", partial(check_deployment, api))
        passes("schedule", partial(check_schedule, api, config.night))
