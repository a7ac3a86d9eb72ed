"""Top-k over the whole catalogue is what scoring every pair by the plain network gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dynaq.agents import catalogue as catalogue_module
from dynaq.agents.catalogue import Catalogue
from dynaq.agents.network import PairNetwork
from dynaq.errors import InputError
from dynaq.mdp.features import FeatureSpace

FEATURES = ["concat", "product", "cosine", "residual"]
APPLICANTS, JOBS, D = 3, 203, 8  # a number of jobs that no block size divides


@pytest.fixture
def space() -> FeatureSpace:
    generator = torch.Generator().manual_seed(0)
    states, actions = (torch.randn(rows, 2 * D, generator=generator) for rows in (APPLICANTS, JOBS))
    return FeatureSpace(states, actions, ((0, 0), (D, D)), D)


def a_network(space: FeatureSpace, features: str = "concat", hidden: tuple[int, ...] = (32, 16)) -> PairNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return PairNetwork(space, hidden, dropout=0.5, features=features).eval()


def small_blocks(monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    monkeypatch.setattr(catalogue_module, "_BLOCK_FLOATS", jobs * 32)


@torch.no_grad()
def plain(network: PairNetwork, space: FeatureSpace) -> Tensor:
    """Every pair through the whole network: float32 [N, M]."""
    return torch.stack([network(state.expand(JOBS, -1), space.actions) for state in space.states])


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("block", [8, 64, 100_000])
def test_it_is_the_plain_order_whatever_the_block(
    space: FeatureSpace, features: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, block)
    network = a_network(space, features)
    expected = plain(network, space)
    for k in (1, 10, JOBS):
        best = Catalogue(network, space.actions).top_k(space.states, k)
        torch.testing.assert_close(best.values, expected.topk(k).values, atol=1e-5, rtol=0)
        torch.testing.assert_close(expected.gather(1, best.jobs), best.values, atol=1e-5, rtol=0)
        assert all(len(row.unique()) == k for row in best.jobs)


def test_an_applicant_gets_the_same_bits_alone_and_again(space: FeatureSpace) -> None:
    catalogue = Catalogue(a_network(space), space.actions)
    together = catalogue.top_k(space.states, 10)
    for row in range(APPLICANTS):
        alone = catalogue.top_k(space.states[row : row + 1], 10)
        assert torch.equal(alone.jobs[0], together.jobs[row])
        assert torch.equal(alone.values[0], together.values[row])


@pytest.mark.parametrize("block", [8, 64, 100_000])
def test_equal_jobs_come_by_row(space: FeatureSpace, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, block)
    # The same seven jobs 29 times over: copies lie in every place of a block, and in the short last one.
    again = torch.arange(JOBS) % 7
    best = Catalogue(a_network(space), space.actions[again]).top_k(space.states, JOBS)
    for jobs, values in zip(best.jobs, best.values, strict=True):
        runs = jobs.reshape(7, 29)
        assert torch.equal(runs, runs.sort(dim=1).values)
        assert len(values.unique()) == 7


def test_excluded_jobs_are_each_applicants_own(space: FeatureSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, 16)
    catalogue = Catalogue(a_network(space), space.actions)
    everything = catalogue.top_k(space.states, JOBS).jobs
    gone = [everything[0, :5], torch.empty(0, dtype=torch.int64), everything[2, [0, 3, 3, 100]]]
    best = catalogue.top_k(space.states, 10, gone).jobs
    assert torch.equal(best[0], everything[0, 5:15])
    assert torch.equal(best[1], everything[1, :10])
    assert best[2].tolist() == [*everything[2, 1:3].tolist(), *everything[2, 4:12].tolist()]


def test_ranking_named_jobs_gives_the_values_of_the_whole(space: FeatureSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, 16)
    for features in FEATURES:
        catalogue = Catalogue(a_network(space, features), space.actions)
        whole = catalogue.top_k(space.states, JOBS)
        some = [row[20:60].sort().values for row in whole.jobs]
        ranked = catalogue.rank(space.states, some, 10)
        assert torch.equal(ranked.jobs, whole.jobs[:, 20:30])
        assert torch.equal(ranked.values, whole.values[:, 20:30])


class LargestResult(TorchDispatchMode):
    """Watches every operation of torch for the largest tensor that it makes."""

    floats = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.floats = max(self.floats, result.numel())
        return result


@pytest.mark.parametrize("features", FEATURES)
def test_nothing_larger_than_a_block_is_made(
    space: FeatureSpace, features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, 16)
    # Hidden layers narrower than the jobs' vectors: then these set the block of a network that reads them.
    catalogue = Catalogue(a_network(space, features, (8, 8)), space.actions)
    with LargestResult() as watch:
        catalogue.top_k(space.states, 5)
    assert 0 < watch.floats <= 16 * 32 < JOBS * 8


def test_training_on_does_not_change_what_is_served(space: FeatureSpace) -> None:
    network = a_network(space).train()
    catalogue = Catalogue(network, space.actions)
    before = catalogue.top_k(space.states, 10)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(-1)
    after = catalogue.top_k(space.states, 10)
    assert network.training
    assert torch.equal(before.values, after.values)
    assert torch.equal(before.jobs, after.jobs)


def test_rounded_halves_keep_nearly_the_same_values(space: FeatureSpace) -> None:
    network = a_network(space)
    exact = Catalogue(network, space.actions).top_k(space.states, JOBS)
    rounded = Catalogue(network, space.actions, torch.bfloat16).top_k(space.states, JOBS)
    by_row = [best.values.gather(1, best.jobs.argsort()) for best in (exact, rounded)]
    assert not torch.equal(*by_row)
    torch.testing.assert_close(*by_row, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("k", "excluded", "message"),
    [
        (0, None, "k is 0: it must be between 1 and the 203 jobs"),
        (204, None, "k is 204: it must be between 1 and the 203 jobs"),
        (203, [[5, 5], [], []], "k is 203: it must be between 1 and the 202 jobs"),
        (1, [[5], []], "2 lists of excluded jobs were given for 3 applicants"),
        (1, [[], [203], []], "excluded job 203 is no row"),
        (1, [[], [-1], []], "excluded job -1 is no row"),
    ],
)
def test_bad_wishes(space: FeatureSpace, k: int, excluded: list[list[int]] | None, message: str) -> None:
    rows = None if excluded is None else [torch.tensor(out, dtype=torch.int64) for out in excluded]
    with pytest.raises(InputError, match=message):
        Catalogue(a_network(space), space.actions).top_k(space.states, k, rows)


def test_bad_tensors(space: FeatureSpace) -> None:
    network = a_network(space)
    catalogue = Catalogue(network, space.actions)
    with pytest.raises(InputError, match=r"states must be \[B, 16\] with B at least 1, found \[3, 15\]"):
        catalogue.top_k(space.states[:, 1:], 1)
    with pytest.raises(InputError, match="B at least 1"):
        catalogue.top_k(space.states[:0], 1)
    with pytest.raises(InputError, match="a state holds NaN"):
        catalogue.top_k(space.states.masked_fill(space.states > 1, torch.nan), 1)
    with pytest.raises(InputError, match=r"int64 rows, found torch.float32"):
        catalogue.top_k(space.states[:1], 1, [torch.tensor([])])
    with pytest.raises(InputError, match="M at least 1"):
        Catalogue(network, space.actions[:0])
    with pytest.raises(InputError, match=r"not as torch\.float16"):
        Catalogue(network, space.actions, torch.float16)
    broken = space.actions.clone()
    broken[150, 3] = torch.inf
    with pytest.raises(InputError, match="job 150 has no finite half"):
        Catalogue(network, broken)
    with torch.no_grad():
        list(network.parameters())[-1].fill_(torch.nan)
    with pytest.raises(InputError, match="no finite values"):
        Catalogue(network, space.actions).top_k(space.states, 1)
