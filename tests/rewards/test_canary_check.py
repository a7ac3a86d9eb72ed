"""A gullible applicant obeys what stands in the texts, unless the prompt fences them off."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from dynaq.data.snapshot import Snapshot
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import rule_sim_endpoint
from dynaq.llm.rule_sim.behaviour import Behaviour
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.rewards.canary_check import canary_table, measure_canaries
from tests.rewards.given import CONFIG, open_labeller


def test_the_defences_take_away_what_orders_do(small_snapshot: Snapshot, database: Database[dict[str, Any]]) -> None:
    with rule_sim_server(Behaviour(gullible=1.0)) as url, LabelClient(rule_sim_endpoint(url), CONFIG) as client:
        labeller = open_labeller(database, client)
        defended, bare = (measure_canaries(small_snapshot, labeller, CONFIG, 6, fenced) for fenced in (True, False))
    obeyed = [name for name, effect in bare.items() if effect.mean > 0.5]
    assert len(obeyed) >= 6
    for name in obeyed:
        assert defended[name].mean < bare[name].mean / 4, name
    assert all(effect.pairs == 6 for effect in (*defended.values(), *bare.values()))
    table = canary_table(defended, bare).splitlines()
    assert len(table) == 2 + len(bare)
    assert {line.split("|")[2].strip() for line in table[2:]} == {"applicant", "job"}
