"""Feedback of an LLM that plays the applicant, as a reward: from the store, or asked for and stored."""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import torch
from torch import Tensor

from dynaq.config import LLMConfig
from dynaq.data.labels import LabelKey, LabelRecord, LabelStore
from dynaq.data.snapshot import Snapshot
from dynaq.errors import LabelError, TransientError
from dynaq.llm.client import Answer, Failure, LabelClient, Reply
from dynaq.llm.label import SCHEMA_VERSION, Label, expected_reward
from dynaq.llm.prompt import PROMPT_VERSION, Prompt, build_prompt

_EMPTY_PROFILE = "empty profile"
_MAY_PASS = re.compile(r"connection|timeout|http (408|429|5\d\d)( .*)?")
_QUOTA_USED_UP = "http 429 insufficient_quota"
_WINDOW, _FEWEST = 100, 20  # the missing share is taken over the last 100 questions, once there are 20

_Pair = tuple[int, int]


def reward_name(provenance: str) -> str:
    """How checkpoints name a reward made of labels of this provenance."""
    return f"llm:{provenance}"


class LLMFeedback:
    """The expected reward of each pair under the answer of the LLM; NaN where there is no answer.

    A label is stored before it is used, and used as it is stored: where another process was first, its label
    counts.

    Attributes:
        name: ``llm:`` and the labels' provenance.
        classes: the rewards of the answers it is the expectation over.
    """

    def __init__(self, snapshot: Snapshot, store: LabelStore, client: LabelClient, config: LLMConfig) -> None:
        """Neither asks nor reads yet."""
        self.name = reward_name(client.endpoint.provenance)
        self.classes = (config.values.apply, config.values.save, config.values.ignore)
        self._snapshot, self._store, self._client, self._config = snapshot, store, client, config
        self._labels: dict[LabelKey, Label] = {}
        self._cost: Counter[str] = Counter(calls_made=0, from_store=0, prompt_tokens=0, completion_tokens=0)
        self._outcomes: deque[str | None] = deque(maxlen=_WINDOW)  # kind of failure, None for a label

    @property
    def labels_used(self) -> int:
        """Distinct labels handed out, paid for now or earlier: the cost axis of every comparison."""
        return len(self._labels)

    def cost(self) -> dict[str, int]:
        """So far: calls made, labels from the store, tokens paid for now, and missing labels by kind."""
        return dict(self._cost)

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Rewards of pairs of rows, int64 [B], [B] -> float32 [B].

        Raises:
            ConfigError: the LLM server refuses the key or knows no such model.
            LabelError: the quota is used up, or more than llm.max_missing_share of the questions have no answer.
            TransientError: the LLM server was down or busy at every call, or MongoDB did not answer.
            KeyboardInterrupt: like every error, after the labels that had arrived were stored.
        """
        pairs: list[_Pair] = list(zip(applicants.tolist(), jobs.tolist(), strict=True))
        prompts = {pair: self._prompt(pair) for pair in dict.fromkeys(pairs)}
        keys = {pair: self._key(prompt) for pair, prompt in prompts.items() if prompt is not None}
        self._count_missing(_EMPTY_PROFILE for prompt in prompts.values() if prompt is None)
        unknown = {key: pair for pair, key in keys.items() if key not in self._labels}
        self._cost["from_store"] += self._recall(unknown)
        # An applicant's jobs one after the other: the provider's prefix cache serves them.
        missing = sorted(unknown.keys() - self._labels.keys(), key=lambda key: (key.applicant_hash, key.job_hash))
        if missing:
            self._ask(missing, [unknown[key] for key in missing], prompts)
            self._recall(missing)
        self._stop_if_too_many_are_missing()
        return torch.tensor([self._reward(keys.get(pair)) for pair in pairs], dtype=torch.float32)

    def _reward(self, key: LabelKey | None) -> float:
        label = self._labels.get(key) if key is not None else None
        return expected_reward(label, self._config.values) if label is not None else math.nan

    def _prompt(self, pair: _Pair) -> Prompt | None:
        applicant, job = self._snapshot.applicant_texts[pair[0]], self._snapshot.job_texts[pair[1]]
        return build_prompt(applicant, job, self._config.max_field_chars)

    def _key(self, prompt: Prompt) -> LabelKey:
        return LabelKey(
            prompt_version=PROMPT_VERSION,
            schema_version=SCHEMA_VERSION,
            provenance=self._client.endpoint.provenance,
            temperature=self._config.temperature,
            sample=0,
            applicant_hash=prompt.applicant_hash,
            job_hash=prompt.job_hash,
        )

    def _recall(self, keys: Iterable[LabelKey]) -> int:
        """Take over what is stored; returns how many labels were."""
        records = self._store.find(keys)
        for key, record in records.items():
            self._labels[key] = Label(record.apply, record.save, record.ignore, record.reason)
        return len(records)

    def _ask(self, keys: list[LabelKey], pairs: list[_Pair], prompts: dict[_Pair, Prompt | None]) -> None:
        def on_replies(arrived: Sequence[tuple[int, Reply]]) -> None:
            answers = [(index, reply) for index, reply in arrived if isinstance(reply, Answer)]
            self._store.put([self._record(keys[index], pairs[index], answer) for index, answer in answers])
            self._outcomes.extend([None] * len(answers))
            self._count_missing(reply.kind for _, reply in arrived if isinstance(reply, Failure))
            self._cost["calls_made"] += len(arrived)
            self._cost["prompt_tokens"] += sum(reply.prompt_tokens for _, reply in arrived)
            self._cost["completion_tokens"] += sum(reply.completion_tokens for _, reply in arrived)
            if any(isinstance(reply, Failure) and reply.kind == _QUOTA_USED_UP for _, reply in arrived):
                raise LabelError(
                    "the LLM provider says that your quota is used up (HTTP 429 insufficient_quota): raise it and run"
                    " again; labels already paid for are stored"
                )

        asked = [prompt for pair in pairs if (prompt := prompts[pair]) is not None]
        replies = self._client.ask(asked, on_replies)
        kinds = Counter(
            reply.kind for reply in replies if isinstance(reply, Failure) and _MAY_PASS.fullmatch(reply.kind)
        )
        if kinds.total() == len(replies):
            raise TransientError(
                f"the LLM server answered none of {len(replies)} calls ({_commonest(kinds)}): check that it is up and"
                " not overloaded"
            )

    def _record(self, key: LabelKey, pair: _Pair, answer: Answer) -> LabelRecord:
        return LabelRecord(
            key=key,
            applicant_id=self._snapshot.applicant_ids[pair[0]],
            job_id=self._snapshot.job_ids[pair[1]],
            apply=answer.label.apply,
            save=answer.label.save,
            ignore=answer.label.ignore,
            reason=answer.label.reason,
            raw_reply=answer.raw_reply,
            model=answer.model,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            latency_s=answer.latency_s,
            created=datetime.now(UTC),
        )

    def _count_missing(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            self._cost[f"missing: {kind}"] += 1
            self._outcomes.append(kind)

    def _stop_if_too_many_are_missing(self) -> None:
        kinds = Counter(kind for kind in self._outcomes if kind is not None)
        asked, bound = len(self._outcomes), self._config.max_missing_share
        if asked >= _FEWEST and kinds.total() > bound * asked:
            raise LabelError(
                f"{kinds.total()} of the last {asked} questions to the LLM have no label, more than"
                f" llm.max_missing_share {bound:g} allows: {_commonest(kinds)}; labels already paid for are stored"
            )


def _commonest(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(3))
