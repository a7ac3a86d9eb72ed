"""SASRec: what it may see, what it must not, and that it earns its place where history matters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynaq.agents.sasrec import SASRec
from dynaq.config import LabelValues
from dynaq.errors import InputError
from dynaq.mdp.drifting import DriftingEnvironment
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.history import History

ACTIONS = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))


def encoder(blocks: int = 2, length: int = 6) -> SASRec:
    torch.manual_seed(1)
    sasrec = SASRec(12, width=8, blocks=blocks, heads=2, length=length)
    nn.init.ones_(sasrec.norm.weight)  # a new one says nothing
    return sasrec


def history(jobs: list[int], answers: list[float]) -> History:
    return History(torch.tensor([jobs]), torch.tensor([answers]))


@pytest.mark.parametrize("blocks", [1, 2])
def test_padding_does_not_matter_neither_its_content_nor_its_length(blocks: int) -> None:
    sasrec = encoder(blocks)
    plain = sasrec(ACTIONS, history([3, 7], [1.0, -0.1]))
    padded = sasrec(ACTIONS, history([-1, -1, -1, 3, 7], [0.0, 0.0, 0.0, 1.0, -0.1]))
    rubbish = sasrec(ACTIONS, history([-1, -1, -1, 3, 7], [float("nan"), 1e9, -5.0, 1.0, -0.1]))
    assert torch.allclose(padded, plain, atol=1e-6)
    assert torch.equal(rubbish, padded)


def test_an_empty_history_is_exactly_zero_also_beside_others() -> None:
    mixed = History.empty(2, 4).appended(torch.tensor([3, 4]), torch.tensor([1.0, float("nan")]))
    encoded = encoder()(ACTIONS, mixed)
    assert encoded[0].abs().max() > 0.1
    assert torch.equal(encoded[1], torch.zeros(8))
    assert torch.allclose(encoded[:1], encoder()(ACTIONS, mixed.at(torch.tensor([0]))), atol=1e-6)


def test_order_job_and_answer_all_matter() -> None:
    sasrec = encoder()
    seen = [
        sasrec(ACTIONS, history(jobs, answers))
        for jobs, answers in (
            ([3, 7, 9], [1.0, 0.5, -0.1]),
            ([7, 3, 9], [0.5, 1.0, -0.1]),
            ([3, 8, 9], [1.0, 0.5, -0.1]),
            ([3, 7, 9], [1.0, -0.1, -0.1]),
        )
    ]
    assert all((a - seen[0]).abs().max() > 1e-3 for a in seen[1:])


def test_attention_is_causal() -> None:
    """What a place hands to the next block depends on nothing shown after it."""
    sasrec = encoder()
    handed: list[Tensor] = []
    sasrec.blocks[0].register_forward_hook(lambda block, given, out: handed.append(out))
    sasrec(ACTIONS, history([3, 7, 9, 11], [1.0, 0.5, 0.5, -0.1]))
    sasrec(ACTIONS, history([3, 7, 12, 2], [1.0, 0.5, 1.0, 1.0]))
    assert torch.equal(handed[0][:, :2], handed[1][:, :2])
    assert not torch.allclose(handed[0][:, 2], handed[1][:, 2])


def test_projecting_once_gives_the_same() -> None:
    sasrec = encoder()
    many = History(torch.randint(-1, 30, (40, 6)).sort(dim=1).values, torch.rand(40, 6))
    assert torch.allclose(sasrec.encode(sasrec.project(ACTIONS), many), sasrec(ACTIONS, many), atol=1e-6)


def test_a_new_memory_says_nothing_and_learns_to_speak() -> None:
    sasrec = SASRec(12, width=8, blocks=1, heads=2, length=6)
    given = history([3, 7], [1.0, -0.1])
    assert torch.equal(sasrec(ACTIONS, given), torch.zeros(1, 8))
    optimizer = torch.optim.Adam(sasrec.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(sasrec(ACTIONS, given), torch.ones(1, 8)).backward()
        optimizer.step()
    assert sasrec.job.weight.grad is not None
    assert sasrec.job.weight.grad.abs().max() > 0


def test_gradients_reach_every_parameter_and_stay_finite_beside_padding() -> None:
    sasrec = encoder()
    full = History(torch.randint(30, (20, 6)), torch.rand(20, 6))
    both = History(torch.cat([full.jobs, torch.full((3, 6), -1)]), torch.cat([full.answers, torch.zeros(3, 6)]))
    (sasrec(ACTIONS, both) * torch.randn(23, 8)).sum().backward()
    for name, parameter in sasrec.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.flatten(1 if parameter.ndim > 1 else 0).abs().sum(-1).max() > 0, name
    assert (sasrec.position.weight.grad.abs().sum(1) > 0).all()


def test_bad_input() -> None:
    with pytest.raises(InputError, match="3 heads, which do not divide its width of 8"):
        SASRec(12, width=8, blocks=1, heads=3, length=4)
    with pytest.raises(InputError, match="a history has 7 places, this SASRec reads 6 at most"):
        encoder()(ACTIONS, History.empty(1, 7))


# --- what it is for ---------------------------------------------------------------------------------------------------

D, APPLICANTS, JOBS, HELD_OUT, LENGTH, CANDIDATES = 8, 300, 150, 100, 8, 12
STEPS, UPDATES = 30, 300


class Predictor(nn.Module):
    """Reward of a pair from [state, job, their product] and, if it remembers, the history."""

    def __init__(self, space: FeatureSpace, remembers: bool) -> None:
        super().__init__()
        self.space = space
        self.memory = SASRec(D, width=16, blocks=1, heads=2, length=LENGTH) if remembers else None
        self.rest = nn.Sequential(nn.Linear(3 * D + 16 * remembers, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, applicants: Tensor, jobs: Tensor, before: History) -> Tensor:
        state, job = self.space.states[applicants], self.space.actions[jobs]
        inputs = [state, job, state * job]
        if self.memory is not None:
            inputs.append(self.memory(self.space.actions, before))
        return self.rest(torch.cat(inputs, dim=1)).squeeze(1)


Events = tuple[Tensor, Tensor, History, Tensor, Tensor]


def live(space: FeatureSpace, pool: Tensor, drift: float, seed: int) -> Events:
    """Applicants shown the best candidate or any: applicants, jobs, histories before, answers, expected answers."""
    values = LabelValues(apply=1.0, save=0.5, ignore=-0.1)
    world = DriftingEnvironment(space, pool, len(pool), CANDIDATES, values, drift, 0.0, False, seed)
    generator = torch.Generator().manual_seed(seed)
    before, events = History.empty(len(pool), LENGTH), []
    for step in range(STEPS):
        seen = world.observe(step)
        order = seen.applicants.argsort()  # the pool is sorted: rows of ``before``
        applicants, candidates = seen.applicants[order], seen.candidates[order]
        expected = world.expected(applicants, candidates)
        any_one = torch.randint(CANDIDATES, (len(pool),), generator=generator)
        best = torch.rand(len(pool), generator=generator) < 0.5
        chosen = torch.where(best, expected.argmax(dim=1), any_one)[:, None]
        jobs = candidates.gather(1, chosen).squeeze(1)
        answers = world.rewards(step, applicants, jobs)
        events.append((applicants, jobs, before.jobs, before.answers, answers, expected.gather(1, chosen).squeeze(1)))
        before = before.appended(jobs, answers)
    applicants, jobs, shown, heard, answers, expected = map(torch.cat, zip(*events, strict=True))
    return applicants, jobs, History(shown, heard), answers, expected


def skill(space: FeatureSpace, learnt: Events, unseen: Events, remembers: bool, seed: int) -> float:
    """Share of the variance of expected answers that a trained predictor explains on applicants held out."""
    torch.manual_seed(seed)
    network = Predictor(space, remembers)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, fused=True)
    applicants, jobs, before, answers, _ = learnt
    for _ in range(UPDATES):
        rows = torch.randint(len(jobs), (128,))
        loss = F.mse_loss(network(applicants[rows], jobs[rows], before.at(rows)), answers[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    applicants, jobs, before, _, expected = unseen
    with torch.no_grad():
        return float(1 - F.mse_loss(network(applicants, jobs, before), expected) / expected.var())


@pytest.mark.slow
def test_a_memory_wins_where_interests_drift_and_does_not_lose_where_they_stay() -> None:
    gains: dict[float, list[float]] = {0.0: [], 1.0: []}
    for drift, gain in gains.items():
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            states, actions = (torch.randn(count, D, generator=generator) for count in (APPLICANTS, JOBS))
            space = FeatureSpace(states, actions, ((0, 0),), D)
            learnt = live(space, torch.arange(APPLICANTS - HELD_OUT), drift, seed)
            unseen = live(space, torch.arange(APPLICANTS - HELD_OUT, APPLICANTS), drift, seed)
            static, remembering = (skill(space, learnt, unseen, remembers, seed) for remembers in (False, True))
            print(f"drift {drift} seed {seed}: static {static:.3f}, remembering {remembering:.3f}")
            gain.append(remembering - static)
    assert min(gains[1.0]) > 0.15
    assert sum(gains[0.0]) / 3 > -0.03
