"""The remembered maximum is the recomputed one to the bit, and its candidates hold still between synchronisations."""

from __future__ import annotations

import pytest
import torch

from dynaq.agents.maxima import FrozenNetwork, RememberedMaxima, fresh_values
from dynaq.agents.network import PairNetwork
from dynaq.mdp.candidates import CandidateSampler
from tests.agents.conftest import random_space

SPACE = random_space(60, 90)
SAMPLER = CandidateSampler(90, 50)
EVERYONE = torch.arange(60)


def random_network(features: str) -> PairNetwork:
    torch.manual_seed(0)
    network = PairNetwork(SPACE, [32, 16], 0.0, features).eval()
    torch.nn.init.normal_(network.last.weight)
    return network


def new_maxima(features: str, epoch: int = 0) -> RememberedMaxima:
    return RememberedMaxima(FrozenNetwork(random_network(features), SPACE, lasting=True), SPACE, SAMPLER, epoch)


@pytest.fixture(params=[200_000, 10], ids=["whole catalogue", "larger than is asked about"])
def whole(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynaq.agents.maxima._WHOLE", request.param)


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize("features", ["concat", "product", "cosine", "residual"])
def test_remembered_is_recomputed_to_the_bit_whoever_was_asked_for_together(features: str) -> None:
    """Matrix libraries round by shape: any grouping of applicants must come out the same."""
    alone = torch.cat([new_maxima(features)(applicant) for applicant in EVERYONE[:, None]])
    generator = torch.Generator().manual_seed(0)
    for size in (7, 33, 120):
        maxima = new_maxima(features)
        for group in torch.randint(60, (120,), generator=generator).split(size):  # with repetitions
            assert torch.equal(maxima(group), alone[group])
        assert torch.equal(maxima.recomputed(EVERYONE), alone)


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize("features", ["concat", "product", "cosine", "residual"])
def test_it_is_the_largest_value_of_the_plain_network(features: str) -> None:
    network, maxima = random_network(features), new_maxima(features)
    for applicant in range(0, 60, 20):
        jobs = maxima.candidates(torch.tensor([applicant]))[0]
        values = network(SPACE.states[applicant].expand(len(jobs), -1), SPACE.actions[jobs])
        assert maxima(torch.tensor([applicant])).item() == pytest.approx(values.max().item(), abs=1e-5)


def test_candidates_are_an_applicants_own_and_hold_still_until_the_next_synchronisation() -> None:
    maxima = new_maxima("concat", epoch=4)
    before = maxima.candidates(EVERYONE)
    maxima(EVERYONE)
    assert torch.equal(maxima.candidates(EVERYONE.flip(0)).flip(0), before)
    assert all(len(set(jobs)) == 50 for jobs in before.tolist())
    sets = {frozenset(jobs) for jobs in before.tolist()}
    assert len(sets) > 50
    later = new_maxima("concat", epoch=5).candidates(EVERYONE)
    assert (later == before).all(dim=1).sum() < 3


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of many states do not depend on how many of them are computed at once."""
    network = random_network("product")
    jobs = SAMPLER.draw(EVERYONE)
    whole = fresh_values(network, SPACE.states, jobs, SPACE.actions)
    monkeypatch.setattr("dynaq.agents.maxima._BLOCK_ROWS", 1)
    assert torch.allclose(fresh_values(network, SPACE.states, jobs, SPACE.actions), whole, atol=1e-5)
    nobody = torch.empty(0, dtype=torch.int64)
    assert fresh_values(network, SPACE.states[nobody], jobs[nobody], SPACE.actions).shape == (0, 50)
