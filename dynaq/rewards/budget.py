"""What labels cost: a forecast before the first call, an account while paying, and a hard stop."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import mean

from dynaq.config import BudgetConfig, LLMConfig, PriceConfig
from dynaq.data.ledger import Ledger, Spent
from dynaq.data.snapshot import Snapshot
from dynaq.errors import LabelError
from dynaq.llm.prompt import build_prompt
from dynaq.llm.reply import Answer, Reply

_TOKENS_PER_CHARACTER, _REPLY_TOKENS = 0.25, 40  # of English prose; of a label. For forecasts only
_SAMPLE = 200


class Budget:
    """What the calls that are entered into one account may cost, in whatever process."""

    def __init__(self, config: LLMConfig, ledger: Ledger) -> None:
        """Reads nothing yet."""
        self._limits, self._price, self._ledger = config.budget, config.price, ledger

    def check(self) -> None:
        """Before the first call.

        Raises:
            LabelError: a limit has been reached.
            TransientError: MongoDB did not answer.
        """
        self._stop_at_a_limit(self._ledger.total())

    def charge(self, spent: Spent, group: str) -> Spent:
        """Enter answered calls, which the account will know by a name; returns the total of all.

        Raises:
            TransientError: MongoDB did not answer.
        """
        return self._ledger.add(spent, group)

    def keep(self, spent: Spent, total: Spent, unasked: int) -> None:
        """After a charge.

        Args:
            spent: on the calls that were charged.
            total: after them.
            unasked: questions that still wait; with none of them left a limit that is just reached stops nothing.

        Raises:
            LabelError: a limit is reached, or cannot be kept because the server does not count tokens.
        """
        counted = self._limits.tokens is not None or self._limits.money is not None
        if counted and spent.labels and spent.prompt_tokens == 0:
            raise LabelError(
                "the LLM server does not say how many tokens it used, so llm.budget.tokens and llm.budget.money cannot"
                " be kept: set llm.budget.labels instead"
            )
        if unasked:
            self._stop_at_a_limit(total)

    def _stop_at_a_limit(self, spent: Spent) -> None:
        for name, used in amounts(spent, self._price).items():
            limit = getattr(self._limits, name)
            if limit is not None and used >= limit:
                raise LabelError(
                    f"llm.budget.{name} is {limit:,g}, and {used:,g} are spent: raise it and run again; labels that"
                    " were paid for are stored and free"
                )


def spent_on(replies: Sequence[Reply]) -> Spent:
    """What answered calls have cost."""
    return Spent(
        calls=len(replies),
        labels=sum(isinstance(reply, Answer) for reply in replies),
        prompt_tokens=sum(reply.tokens.prompt for reply in replies),
        cached_tokens=sum(reply.tokens.cached for reply in replies),
        completion_tokens=sum(reply.tokens.completion for reply in replies),
    )


def amounts(spent: Spent, price: PriceConfig) -> dict[str, float]:
    """Labels, tokens and money, in the units of ``llm.budget``."""
    fresh = spent.prompt_tokens - spent.cached_tokens
    cached = price.prompt if price.cached is None else price.cached
    money = fresh * price.prompt + spent.cached_tokens * cached + spent.completion_tokens * price.completion
    return {
        "labels": spent.labels,
        "tokens": spent.prompt_tokens + spent.completion_tokens,
        "money": money / 1e6,
    }


def left(spent: Spent, config: LLMConfig) -> dict[str, float]:
    """What remains of those that have a limit."""
    limits = config.budget.model_dump()
    used = amounts(spent, config.price)
    return {name: max(0.0, limit - used[name]) for name, limit in limits.items() if limit is not None}


def account(spent: Spent, config: LLMConfig) -> str:
    """What is spent and left, as a part of a sentence: ``120 labels (380 left), 51,200 tokens, 0.02 money``."""
    used, remains = amounts(spent, config.price), left(spent, config)
    parts = [f"{spent.labels:,} labels", f"{used['tokens']:,.0f} tokens", f"{used['money']:,.2f} money"]
    if config.price.prompt == config.price.completion == 0:
        parts.pop()  # nobody said what a token costs
    return ", ".join(
        part + (f" ({remains[name]:,g} left)" if name in remains else "")
        for name, part in zip(used, parts, strict=False)
    )


def forecast(snapshot: Snapshot, config: LLMConfig, questions: int) -> str:
    """About what so many questions cost at most, none of them stored yet; from the lengths of some prompts."""
    chance = random.Random(0)  # noqa: S311 - a sample, no secret
    applicants, jobs = snapshot.applicant_texts, snapshot.job_texts
    prompts = [
        build_prompt(chance.choice(applicants), chance.choice(jobs), config.max_field_chars) for _ in range(_SAMPLE)
    ]
    characters = [
        sum(len(message["content"]) for message in prompt.messages("0" * 16, config.answer))
        for prompt in prompts
        if prompt is not None
    ]
    tokens = int(questions * mean(characters or [0]) * _TOKENS_PER_CHARACTER)
    unlimited = config.model_copy(update={"budget": BudgetConfig(labels=None, tokens=None, money=None)})
    return account(Spent(questions, questions, tokens, 0, questions * _REPLY_TOKENS), unlimited)
