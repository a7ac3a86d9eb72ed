"""The rule-based applicant: reads the prompt that a language model would read, answers with probabilities.

An ordered logit of skill cover, seniority gap, place, pay, a taste of this applicant for words of the job,
and a little noise. It is a pure function of the prompt: the same text has the same answer on every machine.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from dynaq.llm.rule_sim.blocks import read_blocks

# Log-odds of APPLY, set so that of random pairs a few in a hundred are applied for, of fitting ones half.
_BASE, _SAVE_SHIFT = -2.9, 1.0
_COVER, _TITLE = 7.0, 3.0
_CHANCE, _FREE_TEXT = 0.05, 6.0  # any two free texts share some words; shares beyond that count this much
_TOO_HIGH, _TOO_LOW = 0.7, 0.4  # for each level the job is above or below the applicant
_ELSEWHERE, _NOT_REMOTE = 1.0, 0.4
_UNDERPAID, _WELL_PAID = 6.0, 1.5  # for each share of the pay floor that is missing or on top
_WORST_PAY, _BEST_PAY = -2.5, 0.5
_TASTE, _NOISE = 0.7, 0.3

_LEVELS = {
    name: level
    for level, names in enumerate(
        (
            "intern internship trainee apprentice student",
            "junior entry graduate assistant",
            "mid middle medior intermediate experienced professional",
            "senior expert specialist",
            "lead principal staff manager head",
            "director executive chief vp",
        )
    )
    for name in names.split()
}
_CONDITIONS = {"seniority", "place", "remote", "pay", "pay_floor"}  # each has a rule; the rest is text
_COMMON = frozenset(
    """
    a ability able about above according all also an and any applicable are as assist at based be been being
    below best both but by can city company demonstrate describe described description do does duties each
    education etc experience following for from had has have highlights i if in including into is it its job
    knowledge level many may me more must my name new not of office on one or other our out over perform
    position provide provided qualifications required responsibilities responsible select skill skills so
    some state such summary team than that the their them these they this those through to two under up us
    use used using various was we well were what when which who will with within work worked working year
    years you your
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class _Text:
    """A block of the prompt, read once however many prompts show it."""

    conditions: Mapping[str, str]
    skills: tuple[frozenset[str], ...]  # entries of comma lists, each as its words
    words: frozenset[str]
    title: tuple[str, ...]


def answer(prompt: str) -> dict[str, float | str]:
    """Play the applicant in the prompt, a user message, towards the job in it.

    Returns:
        The reply's JSON object: probabilities ``apply``, ``save``, ``ignore`` and a ``reason``.

    Raises:
        ValueError: the prompt has no applicant block followed by a job block.
    """
    blocks = read_blocks(prompt)
    return play(blocks.applicant, blocks.job)


def play(applicant: str, job: str, shift: float = 0.0) -> dict[str, float | str]:
    """``answer`` for the two texts, with a shift of the log-odds of APPLY, and so of those of APPLY or SAVE."""
    weights = _weigh(applicant, job)
    log_odds = _BASE + sum(weights.values()) + _NOISE * _normal(applicant, job) + shift
    apply = round(_sigmoid(log_odds), 4)
    save = round(_sigmoid(log_odds + _SAVE_SHIFT) - apply, 4)
    reason = max(weights, key=lambda name: abs(weights[name]))
    return {"apply": apply, "save": save, "ignore": round(1 - apply - save, 4), "reason": reason}


def _weigh(applicant_block: str, job_block: str) -> dict[str, float]:
    """What each reason adds to the log-odds of APPLY."""
    applicant, job = _read(applicant_block), _read(job_block)
    has, offers = applicant.conditions, job.conditions
    return {
        "skills": _COVER * _cover(applicant, job) + _TITLE * _share(job.title, applicant.words),
        "seniority": _seniority(has.get("seniority", ""), offers.get("seniority", "")),
        "place": _place(has, offers),
        "pay": _pay(has.get("pay_floor", ""), offers.get("pay", "")),
        "interest": _taste(applicant_block, job),
    }


@lru_cache(maxsize=8192)
def _read(block: str) -> _Text:
    fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
    texts = {label: text.lower() for label, text in fields.items() if label not in _CONDITIONS}
    words = [word for text in texts.values() for word in _words(text)]
    return _Text(
        conditions={label: text.lower() for label, text in fields.items() if label in _CONDITIONS},
        skills=tuple(skill for label, text in texts.items() if label != "title" for skill in _skills(text)),
        words=frozenset(words),
        title=tuple(_words(texts.get("title", "")) or words[:5]),
    )


def _skills(text: str) -> list[frozenset[str]]:
    """The entries of a comma list; none of a free text."""
    entries = [_words(entry) for entry in re.split(r"[,;|]", text)]
    return [frozenset(entry) for entry in entries if entry] if max(map(len, entries)) <= 4 else []


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W_][\w+#]*", text) if word not in _COMMON]


def _share(wanted: Iterable[str], there: frozenset[str]) -> float:
    found = [word in there for word in wanted]
    return sum(found) / len(found) if found else 0.0


def _cover(applicant: _Text, job: _Text) -> float:
    """How much of what the job wants the applicant has, in [0, 1]."""
    if job.skills:
        return sum(_share(skill, applicant.words) for skill in job.skills) / len(job.skills)
    return min(1.0, _FREE_TEXT * max(0.0, _share(job.words, applicant.words) - _CHANCE))


def _seniority(has: str, wants: str) -> float:
    held, wanted = _level(has), _level(wants)
    if held is None or wanted is None:
        return 0.0
    return -max(_TOO_HIGH * (wanted - held), _TOO_LOW * (held - wanted))


def _level(text: str) -> int | None:
    return next((_LEVELS[word] for word in _words(text) if word in _LEVELS), None)


def _place(has: Mapping[str, str], offers: Mapping[str, str]) -> float:
    if _yes(offers.get("remote", "")):
        return 0.0
    elsewhere = "place" in has and "place" in offers and has["place"] != offers["place"]
    return -_ELSEWHERE * elsewhere - _NOT_REMOTE * _yes(has.get("remote", ""))


def _yes(text: str) -> bool:
    return text.startswith(("yes", "true", "1", "remote", "full", "only"))


def _pay(floor: str, pay: str) -> float:
    asked, paid = _amounts(floor), _amounts(pay)
    if not asked or not paid or not asked[0]:
        return 0.0
    surplus = max(paid) / asked[0] - 1
    return max(_WORST_PAY, _UNDERPAID * surplus) if surplus < 0 else min(_BEST_PAY, _WELL_PAID * surplus)


def _amounts(text: str) -> list[float]:
    """The numbers of "52,000", "52k" or "48 000 - 60 000"."""
    found = re.findall(r"(\d{1,3}(?:[ ,.]\d{3})+|\d+(?:\.\d+)?)\s*(k?)", text)
    return [float(re.sub(r"[ ,.](?=\d{3})", "", number)) * (1000 if k else 1) for number, k in found]


def _taste(applicant_block: str, job: _Text) -> float:
    """A liking for words of the title, the same for all jobs that share them."""
    likings = [_normal(applicant_block, word) for word in job.title]
    return _TASTE * sum(likings) / math.sqrt(len(likings)) if likings else 0.0


def _normal(*texts: str) -> float:
    """A standard normal draw, seeded by the texts."""
    digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest()
    u, v = ((int.from_bytes(part) + 0.5) / 2**32 for part in (digest[:4], digest[4:]))
    return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
