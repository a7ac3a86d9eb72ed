"""A gullible applicant obeys what stands in the texts, unless the prompt fences them off."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from dynaq.data.snapshot import Snapshot
from dynaq.llm.canaries import CANARIES
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import rule_sim_endpoint
from dynaq.llm.rule_sim.behaviour import Behaviour
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.rewards.canary_check import canary_table, measure_canaries
from tests.rewards.given import CONFIG, LABEL, open_labeller, server


def test_the_defences_take_away_what_orders_do(small_snapshot: Snapshot, database: Database[dict[str, Any]]) -> None:
    with rule_sim_server(Behaviour(gullible=1.0)) as url, LabelClient(rule_sim_endpoint(url), CONFIG) as client:
        labeller = open_labeller(database, client)
        defended, bare = (measure_canaries(small_snapshot, labeller, CONFIG, 6, fenced) for fenced in (True, False))
    obeyed = [name for name, effect in bare.items() if effect.mean > 0.5]
    assert len(obeyed) >= 6
    for name in obeyed:
        assert defended[name].mean < bare[name].mean / 4, name
    assert all(effect.pairs == 6 for effect in (*defended.values(), *bare.values()))
    said, _, *table = canary_table(defended, bare, "rule-sim-v1").splitlines()
    assert "the reward of rule-sim-v1" in said
    assert len(table) == 2 + len(bare)
    assert {line.split("|")[2].strip() for line in table[2:]} == {"applicant", "job"}


def test_a_server_that_refuses_orders_has_its_row_without_a_figure(
    small_snapshot: Snapshot, database: Database[dict[str, Any]]
) -> None:
    def answer(_: int, prompt: str) -> tuple[int, str]:
        return 200, "I will not do that." if "Ignore all previous instructions" in prompt else LABEL

    bearing = CONFIG.model_copy(update={"max_missing_share": 1.0})
    with server(answer) as endpoint, LabelClient(endpoint, bearing) as client:
        found = measure_canaries(small_snapshot, open_labeller(database, client, bearing), bearing, 4, defended=False)
    heard = {line.split("|")[1].strip(): line for line in canary_table(found, found, "m").splitlines()[4:]}
    refused = {canary.name for canary in CANARIES if "Ignore all previous instructions" in canary.text}
    assert len(refused) >= 2
    for name, line in heard.items():
        cells = " no label | 0 " if name in refused else " +0.000 [+0.000, +0.000] | 4 "
        assert line.endswith(f"|{cells}|{cells}|"), line
