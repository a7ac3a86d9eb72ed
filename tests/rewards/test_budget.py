"""Where paying stops, what it will cost at most, and what is left."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pymongo.database import Database

from dynaq.config import BudgetConfig, LLMConfig, MongoConfig, PriceConfig
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.data.ledger import Ledger, Spent
from dynaq.errors import ConfigError, LabelError
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import rule_sim_endpoint
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.rewards.budget import account, amounts, forecast, left
from tests.paths import BASE_CONFIG
from tests.rewards.given import CONFIG, LABEL, TEXTS, open_labeller, questions, server

PRICE = PriceConfig(prompt=2.0, cached=0.5, completion=8.0)


def limited(**limits: float) -> LLMConfig:
    budget = BudgetConfig(**{"labels": None, "tokens": None, "money": None} | limits)
    return CONFIG.model_copy(update={"budget": budget, "price": PRICE})


def test_money_is_what_the_tokens_cost() -> None:
    spent = Spent(calls=3, labels=2, prompt_tokens=1_000_000, cached_tokens=400_000, completion_tokens=100_000)
    assert amounts(spent, PRICE) == {"labels": 2, "tokens": 1_100_000, "money": 0.6 * 2.0 + 0.4 * 0.5 + 0.1 * 8.0}
    no_discount = PRICE.model_copy(update={"cached": None})
    assert amounts(spent, no_discount)["money"] == pytest.approx(1.0 * 2.0 + 0.1 * 8.0)
    config = limited(labels=10, money=5.0)
    assert left(spent, config) == {"labels": 8, "money": pytest.approx(2.8)}
    assert account(spent, config) == "2 labels (8 left), 1,100,000 tokens, 2.20 money (2.8 left)"
    assert account(spent, CONFIG) == "2 labels, 1,100,000 tokens"


def test_a_forecast_follows_questions_texts_and_price() -> None:
    def tokens(text: str) -> int:
        return int(re.findall(r"([\d,]+) tokens", text)[0].replace(",", ""))

    one, thirty = forecast(TEXTS, limited(labels=5), 1), forecast(TEXTS, limited(labels=5), 30)
    assert thirty.startswith("30 labels, ")
    assert "left" not in thirty
    assert tokens(thirty) == pytest.approx(30 * tokens(one), rel=0.01)
    assert 30 * 300 < tokens(thirty) < 30 * 1000
    assert float(thirty.split()[-2]) == pytest.approx(tokens(thirty) * 2e-6 + 30 * 40 * 6e-6, rel=0.1)


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"labels": 20}, r"llm.budget.labels is 20, and 2\d are"), ({"tokens": 140}, "llm.budget.tokens is 140, and")],
)
def test_no_call_starts_beyond_a_limit_and_what_was_paid_is_kept(
    database: Database[dict[str, Any]], limits: dict[str, float], said: str
) -> None:
    config = limited(**limits)
    with server(lambda *_: (200, LABEL)) as endpoint, LabelClient(endpoint, config) as client:  # 7 tokens a call
        with pytest.raises(LabelError, match=said):
            open_labeller(database, client, config)(questions(60))
        paid = Ledger(database["llm_spending"], "test").total()
        assert 20 <= paid.labels < 20 + config.concurrency  # the last one, and those in flight with it
        assert database["llm_feedback"].count_documents({}) == paid.labels
        with pytest.raises(LabelError, match=said):  # the next run does not begin
            open_labeller(database, client, config)(questions(60))
        assert Ledger(database["llm_spending"], "test").total() == paid
        stored = set(database["llm_feedback"].distinct("job_id"))
        known = open_labeller(database, client, config)([q for q in questions(60) if q.job_id in stored])
    assert all(known)  # what is stored is free
    raised = limited(labels=1000, tokens=1_000_000)
    with server(lambda *_: (200, LABEL)) as endpoint, LabelClient(endpoint, raised) as client:
        assert all(open_labeller(database, client, raised)(questions(60)))


def test_a_budget_that_is_just_enough_is_enough(database: Database[dict[str, Any]]) -> None:
    config = limited(labels=20)
    with server(lambda *_: (200, LABEL)) as endpoint, LabelClient(endpoint, config) as client:
        assert all(open_labeller(database, client, config)(questions(20)))
    assert Ledger(database["llm_spending"], "test").total().labels == 20


def test_a_limit_in_tokens_wants_a_server_that_counts_them(database: Database[dict[str, Any]]) -> None:
    config = limited(tokens=1000)
    with (
        server(lambda *_: (200, LABEL), tokens=0) as endpoint,
        LabelClient(endpoint, config) as client,
        pytest.raises(LabelError, match=r"does not say how many tokens .* set llm\.budget\.labels"),
    ):
        open_labeller(database, client, config)(questions(20))
    assert database["llm_feedback"].count_documents({}) == 1  # what was paid is kept


def test_a_budget_of_nothing_pays_nothing(database: Database[dict[str, Any]]) -> None:
    config = limited(labels=0)
    with (
        server(lambda *_: (200, LABEL)) as endpoint,
        LabelClient(endpoint, config) as client,
        pytest.raises(LabelError, match=r"llm\.budget\.labels is 0"),
    ):
        open_labeller(database, client, config)(questions(5))
    assert Ledger(database["llm_spending"], "test").total() == Spent()


def _label(mongo: MongoConfig, workdir: Path, url: str, first: int) -> str:
    with open_database(mongo, workdir) as database, LabelClient(rule_sim_endpoint(url), limited(labels=100)) as client:
        try:
            open_labeller(database, client, limited(labels=100))(questions(first + 300)[first:])
        except LabelError as error:
            return str(error)
    return f"{os.getpid()} was never stopped"


def test_processes_share_one_budget(
    database: Database[dict[str, Any]], mongo_config: MongoConfig, mongo_workdir: Path
) -> None:
    with rule_sim_server() as url, multiprocessing.get_context("spawn").Pool(2) as pool:
        told = pool.starmap(_label, [(mongo_config, mongo_workdir, url, 0), (mongo_config, mongo_workdir, url, 300)])
    assert all("llm.budget.labels is 100" in each for each in told), told
    labels = Ledger(database["llm_spending"], "test").total().labels
    assert 100 <= labels < 100 + 2 * CONFIG.concurrency
    assert database["llm_feedback"].count_documents({}) == labels


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"llm.budget.money": 5.0}, "say what tokens cost"),
        ({"llm.samples.most": 3}, "at temperature 0 every answer"),
        ({"llm.budget.labels": -1}, "greater than or equal to 0"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, ValidationError), match=said):
        load_config(BASE_CONFIG, overrides)
