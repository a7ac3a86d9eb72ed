"""The first stage finds by cosine, the second orders by the network, and what is lost between them is measured."""

from __future__ import annotations

import runpy
import sys

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("faiss", reason="the extra retrieval is not installed")

from dynaq.agents import retrieval as retrieval_module
from dynaq.agents.catalogue import Catalogue
from dynaq.agents.network import PairNetwork
from dynaq.agents.retrieval import JobIndex, Retriever, measured_recall
from dynaq.errors import InputError, MissingDependencyError
from dynaq.mdp.features import FeatureSpace

APPLICANTS, JOBS, D = 4, 500, 16
PAIRS = ((0, D), (D, D), (0, 2 * D))  # an applicant field used twice, a job field used twice, one not at all


@pytest.fixture
def space() -> FeatureSpace:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(APPLICANTS, 2 * D, generator=generator)
    return FeatureSpace(states, torch.randn(JOBS, 3 * D, generator=generator), PAIRS, D)


@pytest.fixture
def catalogue(space: FeatureSpace) -> Catalogue:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Catalogue(PairNetwork(space, [32, 16], dropout=0.0, features="concat"), space.actions)


@pytest.fixture
def short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval_module, "_LIST_JOBS", 25)


def test_nearest_is_the_mean_cosine_of_the_pairs(space: FeatureSpace) -> None:
    cosines = [
        F.normalize(space.states[:, i : i + D], dim=1) @ F.normalize(space.actions[:, j : j + D], dim=1).T
        for i, j in PAIRS
    ]
    mean = torch.stack(cosines).mean(0)
    found = JobIndex(space, probes=1).nearest(space.states, 50)
    torch.testing.assert_close(mean.gather(1, found), mean.topk(50).values, atol=1e-3, rtol=0)  # half precision
    assert all(len(row.unique()) == 50 for row in found)


@pytest.mark.usefixtures("short_lists")
def test_recall_is_whole_only_when_everything_is_re_ranked(space: FeatureSpace, catalogue: Catalogue) -> None:
    index = JobIndex(space, probes=1)
    assert measured_recall(Retriever(catalogue, index, JOBS), space.states, 20) == 1.0
    whole, found = (ranker.top_k(space.states, 20) for ranker in (catalogue, Retriever(catalogue, index, JOBS)))
    assert torch.equal(whole.jobs, found.jobs)
    assert torch.equal(whole.values, found.values)
    # An untrained network ignores the cosine: 50 of 500 jobs hold about a tenth of its best.
    assert measured_recall(Retriever(catalogue, index, 50), space.states, 20) < 0.5


@pytest.mark.usefixtures("short_lists")
def test_recall_is_the_share_of_the_exact_jobs(space: FeatureSpace, catalogue: Catalogue) -> None:
    retriever = Retriever(catalogue, JobIndex(space, probes=4), 60)
    exact, found = catalogue.top_k(space.states, 10).jobs, retriever.top_k(space.states, 10).jobs
    common = sum(len(set(a.tolist()) & set(b.tolist())) for a, b in zip(exact, found, strict=True))
    assert measured_recall(retriever, space.states, 10) == pytest.approx(common / (APPLICANTS * 10))


@pytest.mark.usefixtures("short_lists")
def test_lists_too_short_for_n_are_widened(space: FeatureSpace) -> None:
    # Half of all jobs are one and the same: some lists hold far fewer than 25, one holds 250.
    lopsided = FeatureSpace(space.states, space.actions[torch.arange(JOBS).clamp(min=JOBS // 2)], PAIRS, D)
    found = JobIndex(lopsided, probes=1).nearest(space.states, 200)
    assert all(len(row.unique()) == 200 and row.min() >= 0 for row in found)


@pytest.mark.usefixtures("short_lists")
def test_excluded_jobs_never_come_back_and_take_no_place(space: FeatureSpace, catalogue: Catalogue) -> None:
    retriever = Retriever(catalogue, JobIndex(space, probes=20), 10)
    first = retriever.top_k(space.states, 10).jobs
    gone = [*first[:-1], torch.empty(0, dtype=torch.int64)]
    second = retriever.top_k(space.states, 10, gone).jobs
    for row in range(APPLICANTS - 1):
        assert not torch.isin(second[row], first[row]).any()
    assert torch.equal(second[-1], first[-1])
    # All but ten are excluded: those ten, though only ten are re-ranked.
    left = torch.arange(JOBS)[50:60]
    rest = torch.cat([torch.arange(50), torch.arange(60, JOBS)])
    assert torch.equal(retriever.top_k(space.states[:1], 10, [rest]).jobs[0].sort().values, left)


def test_equal_jobs_come_by_row(space: FeatureSpace) -> None:
    same = FeatureSpace(space.states, space.actions[torch.arange(JOBS) % 7], PAIRS, D)
    network = PairNetwork(same, [32, 16], dropout=0.0, features="concat")
    whole = Catalogue(network, same.actions)
    found = Retriever(whole, JobIndex(same, probes=1), JOBS).top_k(space.states, JOBS)
    assert torch.equal(found.jobs, whole.top_k(space.states, JOBS).jobs)


@pytest.mark.usefixtures("short_lists")
def test_the_same_jobs_from_the_same_snapshot(space: FeatureSpace, catalogue: Catalogue) -> None:
    once, again = (Retriever(catalogue, JobIndex(space, 2), 50).top_k(space.states, 10) for _ in range(2))
    assert torch.equal(once.jobs, again.jobs)
    assert torch.equal(once.values, again.values)


def test_bad_input(space: FeatureSpace, catalogue: Catalogue) -> None:
    index = JobIndex(space, probes=1)
    with pytest.raises(InputError, match="n is 501: between 1 and the 500 jobs"):
        Retriever(catalogue, index, 501)
    with pytest.raises(InputError, match="n is 0"):
        Retriever(catalogue, index, 0)
    with pytest.raises(InputError, match="k is 11, but only the 10 nearest"):
        Retriever(catalogue, index, 10).top_k(space.states, 11)
    with pytest.raises(InputError, match="k is 0"):
        Retriever(catalogue, index, 10).top_k(space.states, 0)
    with pytest.raises(InputError, match="probes is 0"):
        JobIndex(space, probes=0)
    with pytest.raises(InputError, match="500 jobs and the index 400"):
        Retriever(catalogue, JobIndex(FeatureSpace(space.states, space.actions[:400], PAIRS, D), 1), 10)
    with pytest.raises(InputError, match="needs jobs and cosine pairs"):
        JobIndex(FeatureSpace(space.states, space.actions, (), D), 1)


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)  # as an import meets it where it is not installed
    with pytest.raises(MissingDependencyError, match=r"pip install 'dynaq\[retrieval\]'"):
        runpy.run_path(retrieval_module.__file__)
