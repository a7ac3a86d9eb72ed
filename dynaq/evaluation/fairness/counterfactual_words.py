"""Texts as they would read if the applicant were of another gender, and harmless changes to hold beside them.

``swap`` exchanges the gender words and first names that a text has. Most resumes have none, so ``named`` puts a name
at the head of everybody's: a woman's against a man's. What moves a recommender is judged beside what moves it anyway:
``reword`` exchanges as many neutral words as ``swap`` does gender words, and two names of one gender differ in the
same place as a woman's and a man's. How far each moves the vectors is measured, not assumed.

First names: forty of the commonest of the last hundred years in the USA (Social Security Administration, "Top Names
Over the Last 100 Years"), women and men paired roughly by rank; Mark is a word and left out. Last name: the seventh
of the US Census of 2010.

Left out because they seldom speak of a gender in a resume: Ms (Microsoft, Master of Science), host, steward, tailor,
king, miss, maternity. Kept though they often speak of customers ("women's wear"): women and men, because "women's" is
what a real screening tool was reported to punish (Dastin, Reuters 2018).
"""

from __future__ import annotations

import re

_NAMES = """
    Mary James, Patricia Robert, Jennifer John, Linda Michael, Elizabeth David, Barbara William, Susan Richard,
    Jessica Joseph, Sarah Thomas, Karen Charles, Nancy Christopher, Lisa Daniel, Betty Matthew, Margaret Anthony,
    Sandra Donald, Ashley Steven, Kimberly Paul, Emily Andrew, Donna Joshua, Michelle Kenneth
"""
_GENDERED = """
    she he, herself himself, mrs mr, madam sir, woman man, women men, female male, females males, girl boy, girls boys,
    mother father, mothers fathers, mom dad, moms dads, daughter son, daughters sons, sister brother, sisters brothers,
    wife husband, wives husbands, aunt uncle, aunts uncles, niece nephew, nieces nephews, widow widower, lady gentleman,
    ladies gentlemen, gal guy, gals guys, girlfriend boyfriend, granddaughter grandson, grandmother grandfather,
    sorority fraternity, sororities fraternities, waitress waiter, waitresses waiters, actress actor, actresses actors,
    businesswoman businessman, chairwoman chairman, craftswoman craftsman, firewoman fireman, forewoman foreman,
    handywoman handyman, policewoman policeman, saleswoman salesman, servicewoman serviceman, spokeswoman spokesman
"""
_NEUTRAL = """
    assist help, assisted helped, assisting helping, begin start, build construct, created made, customer client,
    customers clients, develop devise, developed devised, maintain keep, maintained kept, provide supply,
    provided supplied, responsible accountable, several various, skills abilities, staff personnel, team crew,
    use employ, used employed
"""

# What follows "her" and "his" where no noun does: then they stand alone, as "him" and "hers". A slash is looked over.
_ALONE = re.compile(
    r"(?:/\w+)?+(?:(?!\s+\w)|\s+(?:and|or|but|to|for|from|with|in|on|at|by|as|of|about|is|are|was|were|when|while|after"
    r"|before|if|that|who|which|because|than)(?![\w-]))",
    re.IGNORECASE,
)


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in map(str.split, text.split(","))]


def _both_ways(text: str) -> dict[str, str]:
    return {word: other for a, b in _pairs(text.lower()) for word, other in ((a, b), (b, a))}


def _any_of(words: dict[str, str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)


_OTHER = _both_ways(_GENDERED) | _both_ways(_NAMES) | {"him": "her", "hers": "his", "her": "his", "his": "her"}
_SYNONYM = _both_ways(_NEUTRAL)
_GENDER_WORD, _NEUTRAL_WORD = _any_of(_OTHER), _any_of(_SYNONYM)

_SURNAME = "Miller"
_FEMALE, _MALE = ([f"{first} {_SURNAME}" for first in names] for names in zip(*_pairs(_NAMES)[:6], strict=True))

NAME_PAIRS = tuple(zip(_FEMALE, _MALE, strict=True))
"""A woman's name and a man's."""
SAME_GENDER_PAIRS = tuple((names[i], names[i + 1]) for names in (_FEMALE, _MALE) for i in (0, 2, 4))
"""The same twelve names, paired within a gender: what a name moves that says nothing of gender."""


def swap(text: str) -> str:
    """Exchange gender words and listed first names, whole words, their case kept.

    Done twice it gives the text back, except where English is ambiguous: "her" is both "his" and "him", "his" both
    "her" and "hers". Before a function word or the end of a clause they are taken to stand alone, else to belong to a
    noun; so "saw him yesterday" comes back as "saw his yesterday". Of mixed case only the first letter's is kept.
    """
    return _GENDER_WORD.sub(lambda found: _exchanged(found, _OTHER), text)


def named(text: str, name: str) -> str:
    """The text with a line for the name, first: sentence encoders cut long texts at their end."""
    return f"Name: {name}\n{text}"


def reword(text: str) -> str:
    """Exchange neutral words for synonyms, one near each gender word that ``swap`` exchanges, as far as there are."""
    neutral = list(_NEUTRAL_WORD.finditer(text))
    chosen = []
    for gendered in _GENDER_WORD.finditer(text):
        if neutral:
            near = min(neutral, key=lambda found: abs(found.start() - gendered.start()))
            neutral.remove(near)
            chosen.append(near)
    for found in sorted(chosen, key=re.Match.start, reverse=True):  # from the end: what lies before stays in place
        text = text[: found.start()] + _exchanged(found, _SYNONYM) + text[found.end() :]
    return text


def _exchanged(found: re.Match[str], other: dict[str, str]) -> str:
    word = found.group()
    new = other[word.lower()]
    if new in ("his", "her") and word.lower() in ("his", "her") and _ALONE.match(found.string, found.end()):
        new = "hers" if new == "her" else "him"
    if word.isupper():
        return new.upper()
    return new.capitalize() if word[0].isupper() else new
