"""The champion before the present one again."""

from __future__ import annotations

from typing import Any

from prefect import flow

from dynaq.config_file import load_config
from tasks.champion import roll_back


@flow
def rollback(config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None) -> str:
    """Take the present champion back; returns a sentence that says which version is the champion now.

    To be run when the champion disappoints where it is used; run twice, it goes two champions back.

    Args:
        config: a YAML file under configs/, or one of yours that extends configs/base.yaml.
        overrides: knobs to change for this run, by dotted key, as {"agent.gamma": 0.5}.
    """
    return roll_back(load_config(config, overrides))
