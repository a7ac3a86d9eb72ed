"""Candidate sets: distinct, repeatable, uniform."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from dynaq.mdp.candidates import CandidateSampler, fresh_seeds, mix


def splitmix64(x: int) -> int:
    """The finaliser in unbounded integers, as Steele, Lea and Flood give it."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return x ^ (x >> 31)


def testmixing_is_splitmix64_to_the_bit() -> None:
    values = [0, 1, 2**62, 2**63 - 1, -1, -(2**63), 123_456_789_012_345]
    mixed = mix(torch.tensor(values)).tolist()
    assert [m % 2**64 for m in mixed] == [splitmix64(v % 2**64) for v in values]


@pytest.mark.parametrize(("size", "n"), [(2, 1), (12, 11), (97, 50), (2000, 50)])
def test_sets_are_distinct_and_the_same_again(size: int, n: int) -> None:
    sampler = CandidateSampler(size, n)
    seeds = fresh_seeds(500, torch.Generator().manual_seed(3))
    drawn = sampler.draw(seeds)
    assert drawn.shape == (500, n)
    assert drawn.min() >= 0
    assert drawn.max() < size
    assert all(len(set(row)) == n for row in drawn.tolist())
    assert torch.equal(drawn[[7]], CandidateSampler(size, n).draw(seeds[[7]]))


def test_every_job_is_equally_likely_in_every_place() -> None:
    drawn = CandidateSampler(60, 5).draw(fresh_seeds(30_000, torch.Generator().manual_seed(1)))
    for place in range(5):
        assert chisquare(torch.bincount(drawn[:, place], minlength=60).numpy()).pvalue > 1e-4
    # Pairs of one set must not cling together either: all differences modulo the size that coprime strides allow.
    differences = (drawn[:, 1] - drawn[:, 0]) % 60
    assert len(differences.unique()) == 16  # Euler's phi(60)


def test_a_small_catalogue_is_shown_whole() -> None:
    assert CandidateSampler(7, 50).draw(torch.tensor([1, 2])).tolist() == [list(range(7))] * 2
