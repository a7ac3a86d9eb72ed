"""Held-out applicants: a matter of the id alone."""

from __future__ import annotations

import numpy as np
import pytest

from dynaq.data.splits import held_out
from dynaq.errors import InputError

IDS = [f"applicant-{number}" for number in range(2000)]


def test_the_share_is_held_out() -> None:
    assert held_out(IDS, 0.3, seed=0).mean() == pytest.approx(0.3, abs=0.03)


def test_who_is_held_out_stays_so_when_others_come_and_go() -> None:
    before = dict(zip(IDS, held_out(IDS, 0.3, seed=0), strict=True))
    others = [*IDS[1000:][::-1], *(f"newcomer-{number}" for number in range(500))]
    after = dict(zip(others, held_out(others, 0.3, seed=0), strict=True))
    assert all(after[each] == before[each] for each in IDS[1000:])


def test_a_larger_share_holds_out_the_same_and_more() -> None:
    assert not (held_out(IDS, 0.2, seed=0) & ~held_out(IDS, 0.4, seed=0)).any()


def test_the_seed_changes_who_is_held_out() -> None:
    assert not np.array_equal(held_out(IDS, 0.3, seed=0), held_out(IDS, 0.3, seed=1))


@pytest.mark.parametrize(("ids", "share"), [(IDS, 0.0), (IDS, 1.0), (IDS[:1], 0.5), ([], 0.5)])
def test_an_empty_side_is_refused(ids: list[str], share: float) -> None:
    with pytest.raises(InputError, match=rf"held_out_share {share} holds out \d+ of {len(ids)}"):
        held_out(ids, share, seed=0)
