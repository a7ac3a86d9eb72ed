"""A fresh run uses nothing that an earlier one has finished, and goes on where another of the same name stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dynaq.agents.arms import Arm
from dynaq.agents.stages import finetune, pretrain
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.judges.graded import lists_from_file, rank_graded
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.online import run_online
from dynaq.evaluation.panel import check_panel, make_panel
from dynaq.evaluation.similarity import similarity_reached
from tests.evaluation.online_toys import BASELINE, COSINE, SEED, Titles, configured

LONG_AGO = 1e9


def night(config: Config, snapshot: Snapshot) -> None:
    """Every stage but those that need a server or an encoder."""
    arm, llm = Arm("cosine", 0.3, SEED), Titles()
    reward: Any = llm
    check_panel(config, snapshot)
    start, panel = pretrain(config, snapshot, arm), make_panel(config, snapshot, None, {})
    finetune(config, snapshot, Arm("hybrid", 0.3, SEED), reward, 1.0)
    for contestant, checkpoint in ((COSINE, start), (BASELINE, None)):
        run_online(config, snapshot, panel, contestant, World(OWN), SEED, checkpoint)
    rank_graded(config, snapshot, panel, lists_from_file(config, snapshot), Contestant("raw cosine", 0.3), SEED, None)
    similarity_reached(config, snapshot, arm, start)


def used(workdir: Path) -> set[str]:
    """Results that were made or used since all were told to be old, which they are told again."""
    results = {path.parent for path in workdir.rglob("SHA256SUMS")}
    found = {path.name for path in results if path.stat().st_mtime > LONG_AGO}
    for path in results:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return found


def test_a_fresh_run_uses_nothing_of_an_earlier_one(small_snapshot: Snapshot, tmp_path: Path) -> None:
    graded, workdir = tmp_path / "graded.csv", tmp_path / "work"
    graded.write_text("applicant,job\n" + "".join(f"applicants-{row},jobs-{row + 3}\n" for row in range(60)))
    columns = {"applicant": "applicant", "job": "job", "grade": None, "negatives": 5, "earlier": None}
    given = {"relevance": {"path": str(graded), **columns}}
    night(configured(workdir, **given), small_snapshot)
    first = used(workdir)
    assert len(first) == 10  # split, 3 checkpoints, panel, 2 online runs, lists, ranking, similarity
    night(configured(workdir, fresh="again", **given), small_snapshot)
    second = used(workdir)
    (lists,) = first & second  # lists are drawn each time, and named by what they hold
    assert (workdir / "graded" / lists / "lists.npz").exists()
    assert len(second) == 10
    night(configured(workdir, fresh="again", **given), small_snapshot)
    assert used(workdir) == second
    night(configured(workdir, **given), small_snapshot)
    assert used(workdir) == first
