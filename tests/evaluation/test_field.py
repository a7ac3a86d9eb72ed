"""Who takes part: everybody in the evaluator's own market, the agents in the dialled ones, nobody without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynaq.agents import stages
from dynaq.agents.arms import Arm
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.field import Field
from dynaq.evaluation.market.world import OWN, World
from tests.paths import BASE_CONFIG

DIALLED = {"compare.dial": {"levels": [0, 1], "rewards": ["cosine", "llm"]}, "compare.seeds": 2}


def field(snapshot: Snapshot, workdir: Path, weight: float = 1.0, **changes: Any) -> Field:
    config = load_config(BASE_CONFIG, {"workdir": str(workdir), **DIALLED, **changes})
    return Field(config, snapshot, "llm:rule-sim-v1", weight)


def test_agents_meet_dialled_markets_and_the_others_their_own_only(small_snapshot: Snapshot, tmp_path: Path) -> None:
    tonight = field(small_snapshot, tmp_path)
    everybody = {entry.contestant: entry for entry in tonight.entries(["cosine", "llm"])}
    assert len(everybody) == 8 + 4 + 5 + 3 * 3
    hybrid = everybody[Contestant("hybrid", 0.3, 200)]
    assert hybrid.worlds == [World(OWN), World("cosine", 0), World("cosine", 1), World("llm", 1)]
    assert set(hybrid.starts) == {0, 1}
    path = stages.finetuned_path(tonight.config, small_snapshot, Arm("hybrid", 0.3, 1), "llm:rule-sim-v1", 1.0, 200)
    assert hybrid.starts[1] == path
    assert everybody[Contestant("ranker", 0.3, 200)].starts[1] == path  # the very labels of the hybrid
    for alone in (Contestant("hybrid", 0.0, 500), Contestant("ranker", 0.3, 200), Contestant("optimum", 0.3)):
        assert everybody[alone].worlds == [World(OWN)]
    assert everybody[Contestant("optimum", 0.3)].starts == {0: None, 1: None}


def test_the_title_is_played_for_in_markets_that_chose_nobody(small_snapshot: Snapshot, tmp_path: Path) -> None:
    tonight = field(small_snapshot, tmp_path, seed=7)
    chosen_in = {seed for entry in tonight.entries([]) for seed in entry.starts}
    markets, of_another = (tonight.fresh_seeds(tmp_path / name) for name in ("hybrid-a", "hybrid-b"))
    assert len(markets) == 2
    assert not set(markets) & set(of_another)  # in which the champion was crowned
    for kind, checkpoint in (("challenger", tmp_path), ("champion", tmp_path), ("baseline", None)):
        entry = tonight.contender(kind, checkpoint, markets)  # type: ignore[arg-type]
        assert (entry.contestant, entry.worlds) == (Contestant(kind, 0.3), [World(OWN)])  # type: ignore[arg-type]
        assert list(entry.starts.items()) == [(seed, checkpoint) for seed in markets]
        assert not chosen_in & entry.starts.keys()


def test_a_market_is_dialled_towards_no_reward_that_the_panel_lacks(small_snapshot: Snapshot, tmp_path: Path) -> None:
    tonight = field(small_snapshot, tmp_path)
    entries = {entry.contestant: entry.worlds for entry in tonight.entries(["cosine"])}
    assert entries[Contestant("cosine", 0.3)] == [World(OWN), World("cosine", 0), World("cosine", 1)]
    only = field(small_snapshot, tmp_path, **{"compare.dial": {"levels": [0, 1], "rewards": ["llm"]}})
    assert next(only.entries(["cosine"])).worlds == [World(OWN)]


def test_without_trust_in_labels_nobody_with_labels_takes_part(small_snapshot: Snapshot, tmp_path: Path) -> None:
    tonight = field(small_snapshot, tmp_path, weight=0.0)
    assert {entry.contestant.labels for entry in tonight.entries(["cosine"])} == {0}
    assert not tonight.wants_labelled_panel
    assert {arm.agent for arm in tonight.trained()} == {"cosine"}


def test_what_was_not_trained_is_named(small_snapshot: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"12 of 12 arms have no checkpoint .* \(cosine-g0\.3-s0, \.\.\.\)"):
        field(small_snapshot, tmp_path).check()
