"""An online run that dies at a step, and again at a later one, ends with the bytes of one that was left alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torch import Tensor

from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.evaluation import online
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.online import run_online
from tests.evaluation.online_toys import BASELINE, COSINE, SEED, STEPS, configured

HYBRID, BANDIT, RANKER = (Contestant(kind, 0.3, 60) for kind in ("hybrid", "bandit", "ranker"))
CONTROLS = (BANDIT, RANKER)  # a matter of seconds: they begin anew
DEATHS = (4, STEPS - 2)


class Dying(online.OnlineEnvironment):
    """Its process ends at a step; what was answered before has changed people and jobs."""

    dies_at = -1
    first = -1

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        Dying.first = step if Dying.first < 0 else Dying.first
        if step == Dying.dies_at:
            raise KeyboardInterrupt
        return super().rewards(step, applicants, jobs)


@pytest.mark.parametrize(
    ("contestant", "world"),
    [
        (HYBRID, World(OWN)),
        (BASELINE, World(OWN)),
        (BANDIT, World(OWN)),
        (RANKER, World(OWN)),
        (COSINE, World("cosine", 0.5)),
    ],
    ids=lambda value: value.name,
)
def test_killed_twice_it_ends_with_the_same_bytes(
    contestant: Contestant,
    world: World,
    config: Config,
    small_snapshot: Snapshot,
    panel: Path,
    checkpoint: Path,
    tuned: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = {0: checkpoint if contestant == COSINE else None, 60: tuned[1]}[contestant.labels]
    whole = run_online(config, small_snapshot, panel, contestant, world, SEED, start)
    copied = shutil.copytree(panel, tmp_path / "panels" / panel.name)
    saving = configured(tmp_path, save_every_s=1e-9)
    monkeypatch.setattr(online, "OnlineEnvironment", Dying)
    went_on_at = []
    for step in (*DEATHS, -1):
        monkeypatch.setattr(Dying, "dies_at", step)
        monkeypatch.setattr(Dying, "first", -1)
        try:
            found = run_online(saving, small_snapshot, copied, contestant, world, SEED, start)
        except KeyboardInterrupt:
            assert bool(list(tmp_path.rglob("*.progress"))) == (contestant not in CONTROLS)
        went_on_at.append(Dying.first)
    assert went_on_at == ([0, 0, 0] if contestant in CONTROLS else [0, *DEATHS])
    assert found.name == whole.name
    for name in ("run.npz", "run.json"):
        assert (found / name).read_bytes() == (whole / name).read_bytes()
    assert not list(tmp_path.rglob("*.progress"))
