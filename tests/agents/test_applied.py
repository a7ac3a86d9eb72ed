"""The set of jobs applied to, against a plain Python set."""

from __future__ import annotations

import random

import torch

from dynaq.agents.applied import AppliedJobs


def test_it_agrees_with_a_set_of_pairs() -> None:
    dice = random.Random(0)
    applied, pairs = AppliedJobs(7), set[tuple[int, int]]()
    everyone, everything = torch.arange(5), torch.arange(7).expand(5, -1)
    for _ in range(12):
        assert applied.contains(everyone, everything).tolist() == [
            [(i, j) in pairs for j in range(7)] for i in range(5)
        ]
        new = [(dice.randrange(5), dice.randrange(7)) for _ in range(dice.randrange(4))]  # with repetitions, or none
        pairs |= set(new)
        rows = torch.tensor(new, dtype=torch.int64).reshape(-1, 2)
        applied.add(rows[:, 0], rows[:, 1])
    assert len(applied.pairs) == len(pairs)


def test_neighbouring_applicants_are_not_confused() -> None:
    """Job 6 of applicant 0 and job 0 of applicant 1 are numbered one after the other."""
    applied = AppliedJobs(7)
    applied.add(torch.tensor([0]), torch.tensor([6]))
    assert applied.contains(torch.tensor([0, 1]), torch.tensor([[6, 5], [0, 6]])).tolist() == [
        [True, False],
        [False] * 2,
    ]
