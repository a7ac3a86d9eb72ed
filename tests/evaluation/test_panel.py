"""The panel: held out, with every training reward of its pairs, in a market made of a sample of the texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynaq.agents.stages import split_of
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import InputError
from dynaq.evaluation import online
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.online import run_online
from dynaq.evaluation.panel import check_panel, make_panel, read_panel
from tests.evaluation.online_toys import BASELINE, SEED, Titles, configured


def test_the_panel_is_held_out_and_says_what_every_reward_says(
    config: Config, small_snapshot: Snapshot, panel: Path
) -> None:
    split, read = split_of(config, small_snapshot), read_panel(panel)
    assert set(read.applicants) <= set(split.held_out_applicants)
    assert set(read.jobs) <= set(split.held_out_jobs)
    assert list(read.rewards) == ["cosine", "llm"]
    assert read.rewards["llm"].shape == (len(read.applicants), len(read.jobs))
    assert read.rewards["llm"][2, 3] == (read.jobs[3] * 7 + read.applicants[2]) % 5 / 4
    assert read.missing == {"cosine": 0, "llm": 0}


def test_a_missing_label_gets_the_mean_and_is_counted(small_snapshot: Snapshot, tmp_path: Path) -> None:
    class Silent(Titles):
        def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
            return torch.where(jobs % 2 == 0, torch.nan, super().__call__(applicants, jobs))

    llm: Any = Silent()
    read = read_panel(make_panel(configured(tmp_path), small_snapshot, llm, {}))
    even = read.jobs % 2 == 0
    assert read.missing["llm"] == even.sum() * len(read.applicants) > 0
    assert (read.rewards["llm"][:, even] == read.rewards["llm"][:, ~even].mean(dtype=np.float32)).all()


def test_of_a_large_snapshot_a_sample_stands_for_the_others(
    config: Config, small_snapshot: Snapshot, panel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_panel(panel)
    online._traits.cache_clear()
    whole, *_ = online._traits(small_snapshot.path, panel)
    online._traits.cache_clear()
    monkeypatch.setattr(online, "_READ", 20)
    part, applicants, jobs = online._traits(small_snapshot.path, panel)
    online._traits.cache_clear()
    assert len(part.jobs) < len(whole.jobs) == 80
    assert np.array_equal(part.jobs.keys[jobs], whole.jobs.keys[read.jobs])
    assert np.array_equal(part.applicants.level[applicants], whole.applicants.level[read.applicants])


def test_too_few_held_out_jobs_for_the_steps_are_named(small_snapshot: Snapshot, tmp_path: Path) -> None:
    config = configured(tmp_path, compare__steps=40)
    with pytest.raises(InputError, match=r"\d+ jobs are held out, too few for 40 steps without repeats"):
        check_panel(config, small_snapshot)
    with pytest.raises(InputError, match=r"\d+ jobs are held out, too few for 40 steps without repeats"):
        run_online(
            config, small_snapshot, make_panel(config, small_snapshot, None, {}), BASELINE, World(OWN), SEED, None
        )
