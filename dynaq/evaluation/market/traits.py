"""What the simulated market reads off the texts of a snapshot: topics, places, levels, pay.

Nothing here depends on a seed, and it is the slow part (seconds on thousands of long texts): read it once
and share it between the markets of all seeds. It uses words only, never the vectors an agent sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from dynaq.errors import InputError
from dynaq.evaluation.market.draws import identity_keys

TOPICS = 48
WORDS = 2**15  # buckets of the hashed vocabulary: no text is too poor or too rich for it

# Labels that are read as attributes; the text under any other label is content.
ATTRIBUTES = frozenset({"seniority", "place", "remote", "pay", "pay_floor"})

LEVELS = {
    0: {"intern", "internship", "trainee", "apprentice", "student"},
    1: {"junior", "entry", "graduate", "beginner", "assistant"},
    2: {"mid", "middle", "intermediate", "confirmed", "regular", "experienced"},
    3: {"senior", "expert"},
    4: {"lead", "principal", "staff", "manager"},
    5: {"head", "director", "executive", "chief", "vp"},
}
REMOTE = {"yes": 1.0, "true": 1.0, "1": 1.0, "remote": 1.0, "full": 1.0, "hybrid": 0.5, "partly": 0.5}

Texts = Sequence[Mapping[str, str]]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Side:
    """Applicants or jobs, row by row; an attribute that a text lacks is NaN, or -1 for a place.

    Attributes:
        keys: uint64 [N], hashes of the ids.
        topics: float32 [N, TOPICS], unit rows, zero where there is no text.
        place: int64 [N], equal numbers for equal places.
        level: float32 [N], seniority from 0 (intern) to 5 (executive).
        pay: float32 [N], what a job pays or the least that an applicant takes, in the unit of the texts.
        remote: float32 [N], 0 on site to 1 remote; of an applicant, the wish for it.
    """

    keys: NDArray[np.uint64]
    topics: Floats
    place: NDArray[np.int64]
    level: Floats
    pay: Floats
    remote: Floats

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.keys)


@dataclass(frozen=True)
class MarketTraits:
    """Both sides of a market, in the row order of the snapshot."""

    applicants: Side
    jobs: Side


def read_traits(
    applicant_texts: Texts, job_texts: Texts, applicant_ids: Sequence[str], job_ids: Sequence[str]
) -> MarketTraits:
    """Read the traits of a snapshot's applicants and jobs.

    Args:
        applicant_texts: a mapping from label to text a row; any label may be absent.
        job_texts: likewise.
        applicant_ids: as many as applicant_texts.
        job_ids: as many as job_texts.

    Raises:
        InputError: a side is empty, or has not as many ids as texts.
    """
    for side, texts, ids in (("applicant", applicant_texts, applicant_ids), ("job", job_texts, job_ids)):
        if not texts:
            raise InputError(f"the simulated market needs at least one {side}, but was given none")
        if len(texts) != len(ids):
            raise InputError(f"the simulated market was given {len(texts)} {side} texts, but {len(ids)} ids")
    applicant_topics, job_topics = _topics(applicant_texts, job_texts)
    names = sorted({_attribute(text, "place") for text in (*applicant_texts, *job_texts)} - {""})
    places = {name: number for number, name in enumerate(names)}
    return MarketTraits(
        _side(applicant_texts, applicant_ids, applicant_topics, places, "pay_floor"),
        _side(job_texts, job_ids, job_topics, places, "pay"),
    )


def _side(texts: Texts, ids: Sequence[str], topics: Floats, places: Mapping[str, int], pay: str) -> Side:
    return Side(
        keys=identity_keys(ids),
        topics=topics,
        place=np.array([places.get(_attribute(text, "place"), -1) for text in texts], dtype=np.int64),
        level=np.array([_level(_attribute(text, "seniority")) for text in texts], dtype=np.float32),
        pay=np.array([_amount(_attribute(text, pay)) for text in texts], dtype=np.float32),
        remote=np.array([_remote(_attribute(text, "remote")) for text in texts], dtype=np.float32),
    )


def _topics(applicant_texts: Texts, job_texts: Texts) -> tuple[Floats, Floats]:
    """Latent semantic analysis: TF-IDF, truncated SVD, each side centred, unit rows.

    The topics are those that applicants write about, and postings are folded in, because half of a posting is
    boilerplate that nobody puts in a resume (on real texts this found the right trade more often than topics
    of both). Each side is centred on itself: that resumes are not postings is no topic.
    """
    hashing = HashingVectorizer(
        n_features=WORDS, alternate_sign=False, stop_words="english", norm=None, dtype=np.float32
    )
    counts = hashing.transform(_content(text) for text in (*applicant_texts, *job_texts))
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    split = len(applicant_texts)
    with threadpool_limits(limits=1):  # the number of threads would show in the last bits
        _, _, components = randomized_svd(weights[:split], min(TOPICS, split), random_state=0)
    topics = np.zeros((len(applicant_texts) + len(job_texts), TOPICS), dtype=np.float32)
    topics[:, : len(components)] = weights @ components.T
    return _centred_rows(topics[:split]), _centred_rows(topics[split:])


def _centred_rows(topics: Floats) -> Floats:
    written = np.linalg.norm(topics, axis=1) > 0
    if written.any():
        topics = topics - topics[written].mean(axis=0)
    topics[~written] = 0
    norms = np.linalg.norm(topics, axis=1, keepdims=True)
    return (topics / np.where(norms > 1e-6, norms, np.inf)).astype(np.float32)


def _content(text: Mapping[str, str]) -> str:
    return " ".join(str(value) for label, value in text.items() if label not in ATTRIBUTES)


def _attribute(text: Mapping[str, str], label: str) -> str:
    return str(text.get(label) or "").strip().casefold()


def _level(text: str) -> float:
    words = set(re.findall(r"[a-z]+", text))
    return max((float(level) for level, names in LEVELS.items() if words & names), default=np.nan)


def _remote(text: str) -> float:
    if not text:
        return np.nan
    return max((REMOTE.get(word, 0.0) for word in re.findall(r"\w+", text)), default=0.0)


def _amount(text: str) -> float:
    """The middle of a range of pay: '45,000 - 55,000 EUR' and '45-55k' are both 50,000."""
    numbers = [float(re.sub(r"[,\s]", "", one)) for one in re.findall(r"\d+(?:[,\s]\d{3})*(?:\.\d+)?", text)]
    if not any(numbers):
        return np.nan
    middle = sum(numbers) / len(numbers)
    return middle * 1000 if middle < 1000 and re.search(r"\d\s?k\b", text) else middle
