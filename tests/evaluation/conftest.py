"""A panel and trained agents that tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynaq.agents.arms import Arm
from dynaq.agents.stages import finetune, pretrain
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.panel import make_panel
from tests.evaluation.online_toys import SEED, Titles, configured


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return configured(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="session")
def panel(config: Config, small_snapshot: Snapshot) -> Path:
    llm: Any = Titles()
    return make_panel(config, small_snapshot, llm, {"who": "titles"})


@pytest.fixture(scope="session")
def checkpoint(config: Config, small_snapshot: Snapshot) -> Path:
    return pretrain(config, small_snapshot, Arm("cosine", 0.3, SEED))


@pytest.fixture(scope="session")
def tuned(config: Config, small_snapshot: Snapshot, checkpoint: Path) -> list[Path]:
    llm: Any = Titles()
    return finetune(config, small_snapshot, Arm("hybrid", 0.3, SEED), llm, 1.0)
