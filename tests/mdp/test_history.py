"""Histories: what is kept, what is forgotten, what leaves no trace."""

from __future__ import annotations

import pytest
import torch

from dynaq.errors import InputError
from dynaq.mdp.history import History


def test_the_newest_comes_last_and_the_oldest_is_forgotten() -> None:
    history = History.empty(2, 3)
    assert not history.shown.any()
    for jobs, answers in (([1, 2], [0.1, 0.2]), ([3, 4], [0.3, 0.4])):
        history = history.appended(torch.tensor(jobs), torch.tensor(answers))
    assert history.jobs.tolist() == [[-1, 1, 3], [-1, 2, 4]]
    assert history.shown.tolist() == [[False, True, True]] * 2
    for job in (5, 6):
        history = history.appended(torch.tensor([job, job]), torch.tensor([1.0, 0.5]))
    assert history.jobs.tolist() == [[3, 5, 6], [4, 5, 6]]
    assert torch.equal(history.answers, torch.tensor([[0.3, 1.0, 1.0], [0.4, 0.5, 0.5]]))
    assert history.at(torch.tensor([1])).jobs.tolist() == [[4, 5, 6]]


def test_the_next_state_is_a_new_one_and_a_missing_answer_leaves_no_trace() -> None:
    before = History.empty(2, 2)
    after = before.appended(torch.tensor([7, 8]), torch.tensor([float("nan"), 1.0]))
    assert before.jobs.tolist() == [[-1, -1]] * 2
    assert after.jobs.tolist() == [[-1, -1], [-1, 8]]
    assert after.answers.tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_jobs_without_their_answers_are_refused() -> None:
    with pytest.raises(InputError, match=r"jobs \[2, 3\] and answers \[2, 4\]"):
        History(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 4))
