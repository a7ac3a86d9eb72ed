from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pymongo.database import Database

from dynaq.data.ledger import Ledger, Spent


def test_an_account_is_opened_by_the_first_and_read_by_all(database: Database[dict[str, Any]]) -> None:
    ledger = Ledger(database["llm_spending"], "tonight")
    assert ledger.total() == Spent()
    first = Spent(calls=3, labels=2, prompt_tokens=30, cached_tokens=10, completion_tokens=5)
    assert ledger.add(first, "a") == first
    assert Ledger(database["llm_spending"], "tonight").add(Spent(calls=1), "b") == Spent(4, 2, 30, 10, 5)
    assert ledger.add(first, "a") == Spent(4, 2, 30, 10, 5)  # entered before, by whomever
    assert Ledger(database["llm_spending"], "tomorrow").total() == Spent()


def test_many_add_at_once_and_nothing_is_lost(database: Database[dict[str, Any]]) -> None:
    ledger = Ledger(database["llm_spending"], "tonight")
    with ThreadPoolExecutor(8) as pool:
        totals = list(pool.map(lambda number: ledger.add(Spent(calls=1), str(number)).calls, range(100)))
    assert sorted(totals) == list(range(1, 101))  # each saw a total of its own
    assert ledger.total().calls == 100
