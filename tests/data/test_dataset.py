"""Pairs in batches: the right rows, the same for a seed, whatever the number of workers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from dynaq.data.dataset import PairDataset, pair_loader
from dynaq.data.snapshot import Snapshot
from dynaq.errors import InputError

# With fewer cores than workers torch warns, and newer Pythons warn of forking beside the threads of others.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*use of fork")


def pairs(snapshot: Snapshot, n: int = 50) -> PairDataset:
    """Random pairs whose reward is their own index."""
    rng = np.random.default_rng(0)
    applicants = rng.integers(len(snapshot.applicants), size=n)
    jobs = rng.integers(len(snapshot.jobs), size=n)
    return PairDataset(snapshot, applicants, jobs, np.arange(n, dtype=np.float32))


def test_batches_hold_the_vectors_of_their_pairs(snapshot: Snapshot) -> None:
    dataset = pairs(snapshot)
    seen = []
    for states, actions, rewards in pair_loader(dataset, batch_size=8, seed=0, workers=0):
        index = rewards.long().numpy()
        seen += index.tolist()
        np.testing.assert_array_equal(states, snapshot.applicants[dataset.applicants[index]])
        np.testing.assert_array_equal(actions, snapshot.jobs[dataset.jobs[index]])
    assert sorted(seen) == list(range(50))
    assert seen != sorted(seen)


def test_one_pair_is_a_row_of_its_batch(snapshot: Snapshot) -> None:
    dataset = pairs(snapshot)
    state, action, reward = dataset[7]
    assert state.shape == (8,)
    assert action.shape == (16,)
    assert reward == 7


@pytest.mark.slow  # torch forks its workers, which once broke beside the threads of tests that run at the same time
def test_workers_change_nothing(snapshot: Snapshot) -> None:
    def epochs(seed: int, workers: int) -> list[torch.Tensor]:
        loader = pair_loader(pairs(snapshot), batch_size=8, seed=seed, workers=workers)
        return [torch.cat([torch.column_stack(batch) for batch in loader]) for _ in range(2)]

    alone, by_two, other_seed = epochs(3, 0), epochs(3, 2), epochs(4, 0)
    assert not torch.equal(alone[0], alone[1])
    assert not torch.equal(alone[0], other_seed[0])
    assert all(torch.equal(one, two) for one, two in zip(alone, by_two, strict=True))


def test_pickles_reopen_the_snapshot_by_its_path(snapshot: Snapshot) -> None:
    pickled = pickle.dumps(pairs(snapshot, n=1))
    assert snapshot.applicants[0].tobytes() not in pickled
    dataset = pickle.loads(pickled)
    assert isinstance(dataset.snapshot.applicants, np.memmap)
    torch.testing.assert_close(dataset[0], pairs(snapshot, n=1)[0])


def test_without_rewards_there_is_no_value(snapshot: Snapshot) -> None:
    dataset = PairDataset(snapshot, np.array([0]), np.array([0]))
    assert dataset[0][2].isnan()


@pytest.mark.parametrize(
    ("applicants", "jobs", "message"),
    [
        ([0, 1], [0], r"shape \(2,\), \(1,\)"),
        ([0, 20], [0, 0], "applicant row 20 is none of the snapshot's rows 0 to 19"),
        ([0, 1], [0, -1], "job row -1 is none of the snapshot's rows 0 to 11"),
    ],
)
def test_pairs_outside_the_snapshot_are_refused(
    snapshot: Snapshot, applicants: list[int], jobs: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PairDataset(snapshot, np.array(applicants), np.array(jobs))
