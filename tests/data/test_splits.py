"""Who is held out: a matter of the ids alone, a group of near-duplicates at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dynaq.data.near_duplicates import groups
from dynaq.data.snapshot import Snapshot
from dynaq.data.splits import Split, held_out, stored_split
from dynaq.errors import InputError

IDS = [f"applicant-{number}" for number in range(2000)]
TRIPLES = np.arange(2000) // 3


def test_the_share_is_held_out() -> None:
    assert held_out(IDS, 0.3, seed=0).mean() == pytest.approx(0.3, abs=0.03)
    assert held_out(IDS, 0.3, seed=0, groups=TRIPLES).mean() == pytest.approx(0.3, abs=0.05)


def test_who_is_held_out_stays_so_when_others_come_and_go() -> None:
    before = dict(zip(IDS, held_out(IDS, 0.3, seed=0), strict=True))
    others = [*IDS[1000:][::-1], *(f"newcomer-{number}" for number in range(500))]
    after = dict(zip(others, held_out(others, 0.3, seed=0), strict=True))
    assert all(after[each] == before[each] for each in IDS[1000:])


def test_a_larger_share_holds_out_the_same_and_more() -> None:
    assert not (held_out(IDS, 0.2, seed=0) & ~held_out(IDS, 0.4, seed=0)).any()


def test_the_seed_changes_who_is_held_out() -> None:
    assert not np.array_equal(held_out(IDS, 0.3, seed=0), held_out(IDS, 0.3, seed=1))


def test_the_same_ids_on_the_other_side_are_drawn_apart() -> None:
    applicants, jobs = held_out(IDS, 0.5, 0), held_out(IDS, 0.5, 0, side="jobs")
    assert (applicants == jobs).mean() == pytest.approx(0.5, abs=0.05)


def test_the_smallest_id_decides_for_its_group() -> None:
    order = np.random.default_rng(0).permutation(2000)
    shuffled, numbers = [IDS[row] for row in order], 7 * TRIPLES[order]
    alone = dict(zip(IDS, held_out(IDS, 0.3, seed=0), strict=True))
    together = held_out(shuffled, 0.3, seed=0, groups=numbers)
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number)
        assert set(together[members]) == {alone[min(shuffled[row] for row in members)]}


def test_a_newcomer_moves_nobody_but_the_group_it_joins() -> None:
    before = held_out(IDS, 0.3, seed=0, groups=TRIPLES)
    moved = 0
    for number in range(20):
        after = held_out([*IDS, f"a{number}"], 0.3, seed=0, groups=np.append(TRIPLES, 5))  # before all other ids
        assert np.array_equal(after[:-1][TRIPLES != 5], before[TRIPLES != 5])
        moved += after[-1] != before[TRIPLES == 5][0]
    assert moved


@pytest.mark.parametrize(("ids", "share"), [(IDS, 0.0), (IDS, 1.0), (IDS[:1], 0.5), ([], 0.5)])
def test_an_empty_side_is_refused(ids: list[str], share: float) -> None:
    with pytest.raises(InputError, match=rf"split.applicants {share} holds out \d+ of {len(ids)} applicants"):
        held_out(ids, share, seed=0)


def test_a_group_of_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"split.jobs 0.3 holds out (0|2000) of 2000 jobs in 1 groups"):
        held_out(IDS, 0.3, 0, "jobs", np.zeros(2000, np.int64))


@pytest.fixture
def with_copies(small_snapshot: Snapshot) -> Snapshot:
    """The last 40 jobs have nearly the vectors of the first 40."""
    jobs = np.array(small_snapshot.jobs)
    jobs[40:] = jobs[:40] + 0.01 * np.random.default_rng(0).normal(size=jobs[:40].shape)
    return replace(small_snapshot, jobs=jobs)


def test_both_sides_are_split_and_copies_stay_together(with_copies: Snapshot, tmp_path: Path) -> None:
    split = stored_split(with_copies, 0.3, 0.4, 0, tmp_path)
    for training, aside, rows in (
        (split.training_applicants, split.held_out_applicants, 60),
        (split.training_jobs, split.held_out_jobs, 80),
    ):
        assert training.dtype == aside.dtype == np.int64
        assert (np.diff(training) > 0).all()
        assert (np.diff(aside) > 0).all()
        assert sorted([*training, *aside]) == list(range(rows))
    assert {(row + 40) % 80 for row in split.held_out_jobs.tolist()} == set(split.held_out_jobs.tolist())
    numbers = groups(with_copies.applicants, with_copies.applicant_texts)
    assert not set(numbers[split.training_applicants]) & set(numbers[split.held_out_applicants])


def rows_of(split: Split) -> list[list[int]]:
    return [rows.tolist() for rows in vars(split).values()]


def test_a_split_is_written_once_and_read_back(with_copies: Snapshot, tmp_path: Path) -> None:
    first = stored_split(with_copies, 0.3, 0.4, 0, tmp_path)
    (path,) = (tmp_path / "splits").iterdir()
    written = (path / "rows.npz").stat()
    second = stored_split(with_copies, 0.3, 0.4, 0, tmp_path)
    assert rows_of(first) == rows_of(second)
    assert (path / "rows.npz").stat() == written
    numbers = groups(with_copies.jobs, with_copies.job_texts)
    assert json.loads((path / "split.json").read_text())["jobs"] == {
        "rows": 80,
        "groups": numbers.max() + 1,
        "largest_group": np.bincount(numbers).max(),
        "held_out": len(first.held_out_jobs),
    }
    assert numbers.max() + 1 <= 40


def test_other_inputs_are_another_split(with_copies: Snapshot, tmp_path: Path) -> None:
    for applicants, jobs, seed in ((0.3, 0.4, 0), (0.4, 0.4, 0), (0.3, 0.3, 0), (0.3, 0.4, 1)):
        stored_split(with_copies, applicants, jobs, seed, tmp_path)
    assert len(list(tmp_path.glob("splits/split-*"))) == 4


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: cut(path / "rows.npz"),
        lambda path: flip(path / "rows.npz"),
        lambda path: (path / "rows.npz").unlink(),
        lambda path: cut(path / "split.json"),
    ],
    ids=["rows cut", "rows flipped", "no rows", "counts cut"],
)
def test_a_damaged_split_is_made_anew(with_copies: Snapshot, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    whole = stored_split(with_copies, 0.3, 0.4, 0, tmp_path)
    (path,) = (tmp_path / "splits").iterdir()
    damage(path)
    assert rows_of(stored_split(with_copies, 0.3, 0.4, 0, tmp_path)) == rows_of(whole)
    assert [each.name.startswith(path.name) for each in (tmp_path / "damaged").iterdir()] == [True]
