"""Fairness by counterfactuals: how far recommendations move when an applicant's text changes and the person does not.

The changed text is embedded again, and the same jobs are ranked for both versions (Kusner et al. 2017, "Counterfactual
Fairness", with the texts of ``counterfactual_words`` as the intervention). No embedding is blind to any change of
words, so a swing means something only beside that of a neutral change, for each unit of its size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dynaq.data.snapshot import Snapshot
from dynaq.errors import InputError
from dynaq.evaluation.judges.ranking import top
from dynaq.evaluation.study.metrics import Estimate
from dynaq.evaluation.study.statistics import bootstrapped
from dynaq.mdp.features import unit_scale
from dynaq.protocols import Encoder

_ROUNDING = 1e-3  # of a vector of length 1: the same text in another batch or on another machine differs by less
_FEWEST = 5  # applicants of an interval: drawn again, one or two would seem to agree
_BATCH = 64  # texts embedded at once

Floats = NDArray[np.float32]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Moves:
    """What a change of the texts does to each applicant under one recommender: float64 [A] each.

    Attributes:
        distance: between the two states, as a share of their length: the size of the change.
        overlap: Jaccard index of the two sets of top jobs; 1 where the recommendations are the same.
        shift: mean absolute change of a job's score in standard deviations of the applicant's scores. What all jobs
            gain alike is taken out: it reorders nothing.
        gain: change of the mean worth of the top jobs, after minus before; None without ``worth``.
    """

    distance: Values
    overlap: Values
    shift: Values
    gain: Values | None

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Whose state changed at all, bool [A]: beyond what the encoder reads a changed word changes nothing."""
        return self.distance > _ROUNDING


@dataclass(frozen=True)
class Swing:
    """What a change does to the applicants whom it moves; a figure is None where there are fewer than five.

    Attributes:
        applicants: whose texts were looked at.
        moved: whose state changed: the figures are theirs alone, or the others would say that all is well.
        distance, overlap, shift, gain: as `Moves` has them.
        beyond: shift for each unit of distance, less that of a neutral change, paired; over who is moved by both.
            Sizes differ, and the larger change shifts more whatever it says. None without a neutral change.
    """

    applicants: int
    moved: int
    distance: Estimate | None
    overlap: Estimate | None
    shift: Estimate | None
    gain: Estimate | None
    beyond: Estimate | None

    @classmethod
    def of(cls, moves: Moves, neutral: Moves | None = None) -> Swing:
        """Means over applicants with their 95% intervals, percentile bootstrap over them."""
        moved, beyond = moves.moved, None
        if neutral is not None:
            both = moved & neutral.moved
            ours, theirs = (each.shift[both] / each.distance[both] for each in (moves, neutral))
            beyond = _estimate(ours - theirs)
        distance, overlap, shift = (_estimate(each[moved]) for each in (moves.distance, moves.overlap, moves.shift))
        gain = None if moves.gain is None else _estimate(moves.gain[moved])
        return cls(len(moved), int(moved.sum()), distance, overlap, shift, gain, beyond)


def _estimate(values: Values) -> Estimate | None:
    return bootstrapped(values) if len(values) >= _FEWEST else None


def counterfactual_states(
    snapshot: Snapshot, rows: NDArray[np.int64], encoder: Encoder, change: Callable[[str], str]
) -> Floats:
    """States of applicants as FeatureSpace has them, with each of their field texts changed.

    A text that ``change`` leaves alone keeps its stored vector.

    Args:
        snapshot: with the text of each applicant field under the field's name.
        rows: int64 [A], applicants.
        encoder: the one that made the vectors.
        change: text to text; for a name ``functools.partial(named, name="Mary Miller")``.

    Returns:
        float32 [A, Ds]

    Raises:
        InputError: a row that is none, a field without text, or vectors that are not this encoder's of the texts.
    """
    if rows.ndim != 1 or not len(rows) or rows.min() < 0 or rows.max() >= len(snapshot.applicants):
        raise InputError(f"rows must be one or more applicants from 0 to {len(snapshot.applicants) - 1}")
    applicants = tuple(rows.tolist())
    _check_reproduced(snapshot, applicants, cast(Hashable, encoder))
    vectors = np.array(snapshot.applicants[rows])
    for field in snapshot.manifest.applicant_fields:
        texts = _field_texts(snapshot, applicants, field)
        new = [change(text) for text in texts]
        changed = [index for index, text in enumerate(texts) if new[index] != text]
        columns = snapshot.field_slice("applicants", field)
        vectors[changed, columns] = _embedded([new[index] for index in changed], encoder)
    return _states(snapshot, vectors)


def measure(
    score: Callable[[Floats], Floats], before: Floats, after: Floats, k: int = 10, worth: Floats | None = None
) -> Moves:
    """How far a change of states moves the jobs that a recommender ranks.

    For a pair of names give the second's states as ``before`` and the first's as ``after``: then ``gain`` is the first
    minus the second. Several pairs are averaged for each applicant before anything else is done.

    Args:
        score: states, float32 [A, Ds], to scores of the same jobs for all, float32 [A, J]; larger is better.
        before: float32 [A, Ds], or [P, A, Ds] for P pairs of versions.
        after: likewise.
        k: how many jobs are shown.
        worth: float32 [A, J], what each job is truly worth to each applicant.

    Raises:
        InputError: arrays that do not fit each other, fewer than two applicants, scores or worth that are not finite,
            or a k that is out of range.
    """
    if before.shape != after.shape or before.ndim not in (2, 3) or before.shape[-2] < 2 or not before.size:
        raise InputError(
            f"before is {list(before.shape)} and after {list(after.shape)}: both must be [A, Ds] or [P, A, Ds] alike,"
            " with at least 2 applicants"
        )
    pairs = zip(before.reshape(-1, *before.shape[-2:]), after.reshape(-1, *after.shape[-2:]), strict=True)
    distance, overlap, shift, gain = np.mean([_figures(score, old, new, k, worth) for old, new in pairs], axis=0)
    return Moves(distance, overlap, shift, None if worth is None else gain)


def _figures(
    score: Callable[[Floats], Floats], before: Floats, after: Floats, k: int, worth: Floats | None
) -> NDArray[np.float64]:
    """Distance, overlap, shift and gain of each applicant: float64 [4, A]."""
    old, new = _scores(score, before), _scores(score, after)
    if old.shape != new.shape or not 1 <= k <= old.shape[1]:
        raise InputError(f"k is {k}, it must be 1 to the number of jobs scored, {old.shape[1]} and {new.shape[1]}")
    distance = np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)
    top_old, top_new = top(old, k), top(new, k)
    common = (top_old[:, :, None] == top_new[:, None]).sum(axis=(1, 2))
    old, new = (each - each.mean(axis=1, keepdims=True) for each in (old, new))
    spread = np.sqrt((old.var(axis=1) + new.var(axis=1)) / 2)
    shift = np.abs(new - old).mean(axis=1) / np.where(spread > 0, spread, 1)  # no spread in either: 0 / 0 is 0 here
    gain = np.zeros(len(old))
    if worth is not None:
        if worth.shape != old.shape or not np.isfinite(worth).all():
            raise InputError(f"worth is {list(worth.shape)}, it must be finite and {list(old.shape)} as the scores are")
        first, then = (np.take_along_axis(worth.astype(np.float64), each, axis=1) for each in (top_old, top_new))
        gain = then.mean(axis=1) - first.mean(axis=1)
    return np.array([distance, common / (2 * k - common), shift, gain])


def _scores(score: Callable[[Floats], Floats], states: Floats) -> NDArray[np.float64]:
    scores = np.asarray(score(states), dtype=np.float64)
    if scores.ndim != 2 or len(scores) != len(states) or not np.isfinite(scores).all():
        raise InputError(f"score gave {list(scores.shape)} for {len(states)} states, it must be finite and [A, J]")
    return scores


@lru_cache(maxsize=1)  # the same applicants are asked for under many names
def _check_reproduced(snapshot: Snapshot, applicants: tuple[int, ...], encoder: Encoder) -> None:
    """Refuse a snapshot whose vectors are not what this encoder makes of the texts as they are."""
    manifest = snapshot.manifest
    d, difference = manifest.dimension, np.inf
    texts = [_field_texts(snapshot, applicants, field) for field in manifest.applicant_fields]
    if encoder.dimension == d:
        again = np.concatenate([_embedded(each, encoder) for each in texts], axis=1)
        stored = np.array(snapshot.applicants[list(applicants)])
        difference = np.abs(_states(snapshot, again) - _states(snapshot, stored)).max() / d**0.5
    if not difference <= _ROUNDING:  # so that NaN is refused too
        raise InputError(
            f"the vectors of snapshot {manifest.digest[:16]}, made by {', '.join(manifest.encoders['applicants'])}, are"
            f" not what {encoder.name} makes of its applicant texts (a component differs by {difference:.2g}, at most"
            f" {_ROUNDING:g} is rounding): this measure needs the texts and the encoder that they were made with"
        )


def _field_texts(snapshot: Snapshot, applicants: Sequence[int], field: str) -> list[str]:
    texts = snapshot.applicant_texts
    for row in applicants:
        if field not in texts[row]:
            raise InputError(
                f"applicant {snapshot.applicant_ids[row]} has no text {field} in snapshot"
                f" {snapshot.manifest.digest[:16]}: counterfactual texts need extract.applicant_text to name each of"
                " extract.applicant_fields by its own name"
            )
    return [texts[row][field] for row in applicants]


def _embedded(texts: Sequence[str], encoder: Encoder) -> Floats:
    """Vectors of texts, float32 [len(texts), D]; by length, as a batch is padded to its longest text."""
    vectors = np.empty((len(texts), encoder.dimension), dtype=np.float32)
    order = np.argsort([len(text) for text in texts])
    for batch in np.split(order, range(_BATCH, len(order), _BATCH)):
        vectors[batch] = encoder.encode([texts[index] for index in batch])
    return vectors


def _states(snapshot: Snapshot, vectors: Floats) -> Floats:
    """States of other applicant vectors, scaled by the very code that scales the snapshot's own."""
    return unit_scale(vectors, snapshot.manifest.dimension).numpy()
