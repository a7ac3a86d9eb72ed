"""A question to an LLM, and what its replies leave behind: labels, and failures that were paid for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dynaq.data.failures import FailureRecord
from dynaq.data.journal import Entry
from dynaq.data.labels import LabelKey, LabelRecord
from dynaq.llm.client import Arrived
from dynaq.llm.prompt import Prompt
from dynaq.llm.reply import NO_TOKENS, Answer, Failure
from dynaq.llm.server import may_pass
from dynaq.rewards.budget import spent_on


@dataclass(frozen=True)
class Question:
    """A prompt about a pair, for the ``sample``-th time; None where a profile is empty: it is never invented."""

    applicant_id: str
    job_id: str
    prompt: Prompt | None
    sample: int = 0

    def label(self, key: LabelKey, answer: Answer) -> LabelRecord:
        """What is stored of an answer; ``key`` is that of the question, without a revision."""
        return LabelRecord(
            key=key._replace(revision=answer.model),
            applicant_id=self.applicant_id,
            job_id=self.job_id,
            apply=answer.label.apply,
            save=answer.label.save,
            ignore=answer.label.ignore,
            reason=answer.label.reason,
            raw_reply=answer.raw_reply,
            prompt_tokens=answer.tokens.prompt,
            cached_tokens=answer.tokens.cached,
            completion_tokens=answer.tokens.completion,
            latency_s=answer.latency_s,
            created=datetime.now(UTC),
        )

    def failure(self, key: LabelKey, reply: Failure) -> FailureRecord:
        """What is stored of a failure."""
        return FailureRecord(key, self.applicant_id, self.job_id, reply.kind, datetime.now(UTC))


class Arrivals(list[Arrived]):
    """Replies that wait for MongoDB; each is on this machine's disk before it is one of them.

    Attributes:
        entry: where they are.
        labels: those among them.
        failures: those that were paid for and are not better when asked again.
    """

    def __init__(self, entry: Entry, keys: Sequence[LabelKey], questions: Sequence[Question]) -> None:
        """Of these questions, by their index."""
        super().__init__()
        self.entry, self._keys, self._questions = entry, keys, questions
        self.labels, self.failures = list[LabelRecord](), list[FailureRecord]()

    def append(self, arrived: Arrived) -> None:
        """Keep a reply."""
        index, reply = arrived
        key, question = self._keys[index], self._questions[index]
        labels, failures = list[LabelRecord](), list[FailureRecord]()
        if isinstance(reply, Answer):
            labels.append(question.label(key, reply))
        elif reply.tokens != NO_TOKENS and not may_pass(reply.kind):
            failures.append(question.failure(key, reply))
        self.entry.add(spent_on([reply]), labels, failures)
        self.labels += labels
        self.failures += failures
        super().append(arrived)
