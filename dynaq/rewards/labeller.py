"""Labels for questions: from the store, or asked for, paid, and stored before anyone sees them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple

from dynaq.config import LLMConfig
from dynaq.data.failures import FailureStore, failure_document
from dynaq.data.journal import Journal
from dynaq.data.labels import LabelKey, LabelRecord, LabelStore
from dynaq.data.ledger import Spent
from dynaq.errors import LabelError, TransientError
from dynaq.llm.client import LabelClient
from dynaq.llm.label import Label, schema_version
from dynaq.llm.reply import Answer, Failure, Reply
from dynaq.llm.server import QUOTA_USED_UP, may_pass
from dynaq.rewards.budget import Budget, spent_on
from dynaq.rewards.question import Arrivals, Question

log = logging.getLogger(__name__)

_EMPTY_PROFILE, _NOT_STORED = "empty profile", "not stored"
ANY = "any"  # llm.revision: labels of different revisions may mix
_WINDOW, _FEWEST = 100, 20  # the missing share is taken over the last 100 questions or more, once there are 20
_AT_ONCE = 1000  # claims of a process: the kernel looks for each in a list
_SEVERAL = 5  # calls that fail together say something about the server, fewer about themselves


class Labeller:
    """Answers questions with labels of one server, one prompt, and one revision of the model unless told otherwise.

    A label is stored before it is used, and used as it is stored: where another process was first, its label
    counts.

    Args:
        store: of all labels ever paid for.
        client: asks the server.
        config: what is asked, what may be missing and which revisions count.
        budget: is charged with every call.
        journal: keeps what was paid for until it is charged and stored.
    """

    def __init__(
        self, store: LabelStore, client: LabelClient, config: LLMConfig, budget: Budget, journal: Journal
    ) -> None:
        self.provenance = client.endpoint.provenance
        self._store, self._client, self._config = store, client, config
        self._budget, self._journal = budget, journal
        self._revisions: list[str] = []  # whose labels count; none yet: the first reply decides
        self._labels: dict[LabelKey, Label] = {}
        self._failures, self._failed = FailureStore(store), set[LabelKey]()
        self._cost: Counter[str] = Counter(
            calls_made=0, from_store=0, prompt_tokens=0, cached_tokens=0, completion_tokens=0
        )
        self._outcomes: list[str | None] = []  # of the last questions: kind of failure, None for a label

    @property
    def distinct(self) -> int:
        """Different labels handed out, paid for now or earlier: the cost axis of every comparison."""
        return len(self._labels)

    def cost(self) -> dict[str, int]:
        """So far: calls made, labels from the store, tokens paid for now, and missing labels by kind.

        ``tokens_of_labels`` is what the labels in use have cost whenever they were paid for: it is the same however
        often a night is repeated.
        """
        return dict(self._cost)

    def memory(self) -> str:
        """All that decides what it says from here on, and what it has said, as JSON."""
        labels = [[key, astuple(label)] for key, label in self._labels.items()]
        return json.dumps([labels, self._cost, self._outcomes, self._revisions])

    def remember(self, memory: str) -> None:
        """Go on where another stopped, of which ``memory`` was taken."""
        labels, cost, self._outcomes, self._revisions = json.loads(memory)
        self._labels = {LabelKey(*key): Label(*label) for key, label in labels}
        self._cost = Counter(cost)

    def __call__(self, questions: Sequence[Question]) -> list[Label | None]:
        """One label a question, None where there is none.

        Raises:
            ConfigError: the LLM server refuses the key or knows no such model.
            LabelError: the budget or the quota is used up, too many of the last questions have no answer, labels
                would be of different revisions, or none is stored and ``llm.replay_only`` is set.
            TransientError: the LLM server was down or busy at every call, or MongoDB did not answer.
            KeyboardInterrupt: like every error, after the labels that had arrived were stored.
        """
        keys = [self._key(question) for question in questions]
        self._count_missing(_EMPTY_PROFILE for key in keys if key is None)
        unknown = {key: q for key, q in zip(keys, questions, strict=True) if key and key not in self._labels}
        self._take_stored(unknown)
        # An applicant's jobs one after the other: the provider's prefix cache serves them.
        missing = sorted(unknown.keys() - self._labels.keys(), key=lambda key: (key.applicant_hash, key.job_hash))
        if missing and self._config.replay_only:
            self._miss(unknown[missing[0]], len(missing))
            missing = []
        while missing:  # what others are asking comes last
            missing = missing[_AT_ONCE:] + self._ask_or_wait(missing[:_AT_ONCE], unknown)
        # Of the last questions, and of all of these: what is stored comes first.
        self._outcomes = self._outcomes[-max(_WINDOW, len(questions)) :]
        self._stop_if_too_many_are_missing()
        return [self._labels.get(key) if key is not None else None for key in keys]

    def _take_stored(self, keys: Iterable[LabelKey]) -> None:
        recalled = self._recall(keys)
        self._cost["from_store"] += recalled
        self._outcomes.extend([None] * recalled)

    def _ask_or_wait(self, keys: list[LabelKey], questions: dict[LabelKey, Question]) -> list[LabelKey]:
        """Ask what no other process is asking; returns what others were asking, once they are through."""
        with self._journal.claims.hold(keys) as mine:
            self._journal.redo()  # what a killed process had been answered
            self._take_stored(mine)  # what others have been answered since we looked
            missing = self._not_failed([key for key in mine if key not in self._labels])
            if missing:
                self._recall(self._ask(missing, [questions[key] for key in missing]))
        theirs = sorted(set(keys) - set(mine))
        if theirs:
            log.info("waiting for %d answers that another process is asking for", len(theirs))
            self._journal.claims.wait(theirs)
        return theirs

    def _not_failed(self, keys: list[LabelKey]) -> list[LabelKey]:
        """Those that nobody has paid for in vain today; the others are missing as if they had been asked again."""
        failed = self._failures.find(keys)
        self._failed.update(failed)
        self._count_missing(failed.values())
        return [key for key in keys if key not in failed]

    def _key(self, question: Question) -> LabelKey | None:
        """The key but for the revision, which only a reply can tell."""
        if question.prompt is None:
            return None
        return LabelKey(
            prompt_version=question.prompt.version,
            schema_version=schema_version(self._config.answer),
            provenance=self.provenance,
            revision="",
            temperature=self._config.temperature,
            sample=question.sample,
            applicant_hash=question.prompt.applicant_hash,
            job_hash=question.prompt.job_hash,
        )

    def _recall(self, keys: Iterable[LabelKey]) -> int:
        """Take over what is stored; returns how many labels were."""
        keys = list(keys)
        before = len(self._labels)
        for revision in self._accepted(keys):
            wanted = [key._replace(revision=revision) for key in keys if key not in self._labels]
            self._use(self._store.find(wanted).values())
        return len(self._labels) - before

    def _use(self, records: Iterable[LabelRecord]) -> None:
        for record in records:
            key = record.key._replace(revision="")
            if key not in self._labels:
                self._cost["tokens_of_labels"] += record.prompt_tokens + record.completion_tokens
            self._labels[key] = Label(record.apply, record.save, record.ignore, record.reason)

    def _accepted(self, keys: Sequence[LabelKey]) -> list[str]:
        """The revisions whose labels count."""
        if keys and (not self._revisions or self._config.revision == ANY):  # another process may know by now
            named = self._config.revision
            stored = self._store.revisions(keys[0])
            if named is None and len(stored) > 1:
                raise LabelError(
                    f"stored labels of {self.provenance} are of {' and '.join(stored)}: set llm.revision to one of"
                    f" them, or to {ANY}"
                )
            self._revisions = stored if named in (None, ANY) else [named]
        return self._revisions

    def _miss(self, question: Question, count: int) -> None:
        """Where nobody may be asked: some that are not stored were missing in the first run too."""
        if not self._labels:
            raise LabelError(
                f"llm.replay_only is set, and {count} labels of {self.provenance} are not stored, the first that of"
                f" applicant {question.applicant_id} and job {question.job_id}: run once without it"
            )
        self._count_missing([_NOT_STORED] * count)

    def _ask(self, keys: list[LabelKey], questions: list[Question]) -> list[LabelKey]:
        """Ask and store; returns the keys for which another process was first, so that its label counts."""
        self._budget.check()
        lost: list[LabelKey] = []

        def on_replies(arrived: Arrivals) -> None:
            replies = [reply for _, reply in arrived]
            unasked, spent = self._client.unasked, spent_on(replies)
            with arrived.entry as group:
                total = self._budget.charge(spent, group)
                self._failures.insert([failure_document(record) for record in arrived.failures])
                others = self._store.put(arrived.labels)
            self._failed.update(record.key for record in arrived.failures)
            self._use(record for record in arrived.labels if record.key not in others)
            lost.extend(key._replace(revision="") for key in others)
            self._count(replies, spent)
            self._budget.keep(spent, total, unasked)
            self._stop_at_a_refusal(replies)

        prompts = [question.prompt for question in questions if question.prompt is not None]
        replies = self._client.ask(prompts, on_replies, lambda: Arrivals(self._journal.entry(), keys, questions))
        kinds = Counter(reply.kind for reply in replies if isinstance(reply, Failure) and may_pass(reply.kind))
        if kinds.total() == len(replies) >= _SEVERAL:
            raise TransientError(
                f"the LLM server answered none of {len(replies)} calls ({_commonest(kinds)}): check that it is up and"
                f" not overloaded, and its address ({self._client.endpoint.variables[2]})"
            )
        return lost

    def _count(self, replies: Sequence[Reply], spent: Spent) -> None:
        self._outcomes.extend(None for reply in replies if isinstance(reply, Answer))
        self._count_missing(reply.kind for reply in replies if isinstance(reply, Failure))
        self._cost["calls_made"] += spent.calls
        self._cost["prompt_tokens"] += spent.prompt_tokens
        self._cost["cached_tokens"] += spent.cached_tokens
        self._cost["completion_tokens"] += spent.completion_tokens

    def _stop_at_a_refusal(self, replies: Sequence[Reply]) -> None:
        """End where every further call would be paid in vain, or give labels of another kind."""
        if any(isinstance(reply, Failure) and reply.kind == QUOTA_USED_UP for reply in replies):
            raise LabelError(
                "the LLM provider says that your quota is used up (HTTP 429 insufficient_quota): raise it and run"
                " again; labels already paid for are stored"
            )
        served = {reply.model for reply in replies if isinstance(reply, Answer)}
        if served and self._config.revision != ANY:
            self._revisions = self._revisions or sorted(served)[:1]
            if others := sorted(served - set(self._revisions)):
                raise LabelError(
                    f"the LLM server answers as {others[0]}, while labels are of {self._revisions[0]}: set llm.revision"
                    f" to one of them, or to {ANY}; what was paid for is stored"
                )

    def _count_missing(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            self._cost[f"missing: {kind}"] += 1
            self._outcomes.append(kind)

    def _stop_if_too_many_are_missing(self) -> None:
        kinds = Counter(kind for kind in self._outcomes if kind is not None)
        asked, bound = len(self._outcomes), self._config.max_missing_share
        if asked >= _FEWEST and kinds.total() > bound * asked:
            lasting = sum(count for kind, count in kinds.items() if not may_pass(kind))
            if lasting > bound * asked:
                self._failures.forget(self._failed)  # so many are no fault of the texts: asked again when it is mended
            raise (LabelError if lasting > bound * asked else TransientError)(
                f"{kinds.total()} of the last {asked} questions to the LLM have no label, more than"
                f" llm.max_missing_share {bound:g} allows: {_commonest(kinds)}; labels already paid for are stored"
            )


def _commonest(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(3))
