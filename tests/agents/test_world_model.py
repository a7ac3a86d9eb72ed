"""The world model: what it reads off its sums is what a pass over all answers would give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynaq.agents.classes import two_hot
from dynaq.agents.world_model import _RIDGES, WorldModel
from dynaq.config import WorldModelConfig
from dynaq.mdp.history import History
from tests.agents.conftest import all_pairs, cosines, random_space

SPACE = random_space(60, 50)
CLASSES = (1.0, 0.5, -0.1)  # apply, save, ignore
CONFIG = WorldModelConfig(heads=4, state_components=4, action_components=8, held_out_share=0.15)


def new_model(seed: int = 0, cosine: bool = False, history: int = 0) -> WorldModel:
    return WorldModel(SPACE, CONFIG, cosine, history, seed)


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random applicants and jobs, some pairs more than once: int64 [count] each."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(60, (count,), generator=generator), torch.randint(50, (count,), generator=generator)


def noisy_cosines(applicants: Tensor, jobs: Tensor, seed: int) -> Tensor:
    noise = torch.randn(len(jobs), generator=torch.Generator().manual_seed(seed))
    return cosines(SPACE)[applicants, jobs] + 0.2 * noise


def as_classes(rewards: Tensor) -> Tensor:
    return torch.tensor([-0.1, 0.5, 1.0])[torch.bucketize(rewards, torch.tensor([0.2, 0.6]))]


def old_rewards(applicants: Tensor, jobs: Tensor) -> Tensor:
    """What a warm start expects: half right."""
    return 0.5 + 0.3 * cosines(SPACE)[applicants, jobs] + 0.1 * SPACE.actions[jobs, 0]


def second_phase(classes: tuple[float, ...]) -> tuple[WorldModel, Tensor, Tensor, Tensor]:
    """A model that took over from another reward, and the 600 answers it then met in uneven portions."""
    model = new_model()
    before = pairs(400, 1)
    model.observe(*before, old_rewards(*before))
    model.start_phase(classes, old_rewards)
    applicants, jobs = pairs(600, 3)
    rewards = noisy_cosines(applicants, jobs, 4)
    rewards = as_classes(rewards) if classes else rewards
    for portion in torch.arange(600).split([1, 30, 250, 319]):
        model.observe(applicants[portion], jobs[portion], rewards[portion])
    return model, applicants, jobs, rewards


def brute_force_ridge(x: Tensor, y: Tensor, ridge: Tensor, towards: Tensor) -> Tensor:
    """Minimise |y - x w|^2 + ridge |w - towards|^2 by least squares over more rows: [F, C]."""
    root = ridge.sqrt()
    rows = torch.cat([x, torch.diag(root)])
    return torch.linalg.lstsq(rows, torch.cat([y, root[:, None] * towards])).solution


@pytest.mark.parametrize("classes", [(), CLASSES], ids=["number", "classes"])
def test_weights_and_skill_are_those_of_a_pass_over_all_answers(classes: tuple[float, ...]) -> None:
    model, applicants, jobs, rewards = second_phase(classes)
    x, values = model.features(applicants, jobs), torch.tensor(sorted(classes) or [1.0], dtype=torch.float64)
    y = torch.stack([rewards == v for v in values.float()], dim=1).double() if classes else rewards.double()[:, None]
    aside = model.is_held_out(applicants, jobs)
    scale = torch.ones(model.width, dtype=torch.float64)
    scale[:2] = 0.01  # the constant and the phase before are hardly penalised
    # Before any answer: the expectation of the phase before, as chances of least norm.
    towards = torch.zeros(model.width, len(values), dtype=torch.float64)
    if classes:
        towards[:2] = torch.linalg.pinv(torch.stack([torch.ones(3).double(), values], dim=1).T).T
    else:
        towards[1, 0] = 1.0
    fits = [brute_force_ridge(x[~aside], y[~aside], ridge * scale, towards) for ridge in _RIDGES]
    held_out, answers = x[aside], rewards[aside].double()
    errors = torch.stack([((held_out @ fit @ values - answers) ** 2).mean() for fit in fits])
    assert torch.allclose(model.weights[0], fits[int(errors.argmin())], atol=1e-6)

    mean = rewards[~aside].double().mean()
    known = torch.linalg.lstsq(x[~aside, :2], rewards[~aside].double()[:, None]).solution.squeeze(1)
    simple = min(((mean - answers) ** 2).mean(), ((held_out[:, :2] @ known - answers) ** 2).mean())
    assert model.skill == pytest.approx(1 - float(errors.min() / simple), abs=1e-5)

    predicted = held_out @ model.weights[0] @ values
    joint = torch.cov(torch.stack([predicted, answers]))
    slope = float((joint[0, 1] / joint[0, 0]).clamp(0, 1))
    assert model.slope == pytest.approx(slope, abs=1e-6)
    expected = slope * (x @ model.weights[0] @ values) + (1 - slope) * mean
    assert torch.allclose(model.predict(applicants, jobs).reward, expected.float(), atol=1e-5)


def test_heads_are_ridges_on_poisson_bootstraps() -> None:
    """A head is fitted to each pair 0, 1, 2, ... times, and the same number whenever it comes again."""
    model, applicants, jobs, _ = second_phase(())
    seen = model.tensors()["learned.xx"][:, 0, 0]  # the constant's square: the number of answers, weighted
    assert seen[0] == (~model.is_held_out(applicants, jobs)).sum()
    assert torch.allclose(seen[1:] / seen[0], torch.ones(4, dtype=torch.float64), atol=0.2)
    one = new_model()
    applicant, job = next(
        (i[None], j[None]) for i, j in zip(*all_pairs(60, 50), strict=True) if not one.is_held_out(i[None], j[None])
    )
    for _ in range(3):
        one.observe(applicant, job, torch.ones(1))
    counts = one.tensors()["learned.xx"][:, 0, 0]
    assert counts[0] == 3
    assert torch.equal(counts % 3, torch.zeros(5, dtype=torch.float64))
    everything = new_model()
    everything.observe(*all_pairs(60, 50), torch.ones(3000))
    sums = everything.tensors()["learned.xx"][1:, 0, 0] / everything.tensors()["learned.xx"][0, 0, 0]
    assert torch.allclose(sums, torch.ones(4, dtype=torch.float64), atol=0.08)  # Poisson(1): 4 standard errors


def test_held_out_pairs_are_never_learned_from() -> None:
    applicants, jobs = pairs(600, 5)
    rewards = noisy_cosines(applicants, jobs, 6)
    model, lied_to = new_model(), new_model()
    aside = model.is_held_out(applicants, jobs)
    assert 0.1 < aside.float().mean() < 0.2
    assert torch.equal(aside.flip(0), model.is_held_out(applicants.flip(0), jobs.flip(0)))
    assert not torch.equal(aside, new_model(seed=1).is_held_out(applicants, jobs))
    model.observe(applicants[aside], jobs[aside], rewards[aside])
    assert not model.predict(applicants, jobs).reward.any()
    model.observe(applicants[~aside], jobs[~aside], rewards[~aside])
    lied_to.observe(applicants, jobs, torch.where(aside, 100.0, rewards))
    for name in ("learned.xx", "learned.xy"):
        assert torch.allclose(model.tensors()[name], lied_to.tensors()[name])


@pytest.mark.parametrize("classes", [(), CLASSES], ids=["number", "classes"])
def test_skill_on_what_can_be_learned_and_on_noise(classes: tuple[float, ...]) -> None:
    applicants, jobs = pairs(2000, 7)
    learnable = cosines(SPACE)[applicants, jobs]
    noise = learnable[torch.randperm(2000, generator=torch.Generator().manual_seed(8))]
    skills = []
    for rewards in (learnable, noise):
        model = new_model(cosine=True)
        model.start_phase(classes, None)
        model.observe(applicants, jobs, as_classes(rewards) if classes else rewards)
        assert 0 <= model.slope <= 1
        skills.append(model.skill)
    assert skills[0] > 0.5
    assert skills[1] < 0.03


def test_a_handful_of_held_out_answers_shows_no_skill() -> None:
    applicants, jobs = all_pairs(60, 50)
    model = new_model()
    aside = model.is_held_out(applicants, jobs).nonzero().squeeze(1)
    rows = torch.cat([(~model.is_held_out(applicants, jobs)).nonzero().squeeze(1), aside[:9]])
    model.observe(applicants[rows], jobs[rows], cosines(SPACE).flatten()[rows])
    assert (model.skill, model.slope) == (0.0, 1.0)
    model.observe(applicants[aside[9:10]], jobs[aside[9:10]], cosines(SPACE).flatten()[aside[9:10]])
    assert model.skill > 0


def test_predictions_against_the_answers_are_calibrated_away() -> None:
    """Held-out answers contradict those learned from: the slope is 0, and what is left is the mean."""
    applicants, jobs = pairs(800, 9)
    model = new_model()
    rewards = cosines(SPACE)[applicants, jobs]
    aside = model.is_held_out(applicants, jobs)
    model.observe(applicants, jobs, torch.where(aside, -rewards, rewards))
    assert model.slope == 0.0
    assert model.skill < 0
    assert torch.allclose(model.predict(applicants, jobs).reward, rewards[~aside].mean(), atol=1e-5)


@pytest.mark.parametrize("classes", [(), CLASSES], ids=["number", "classes"])
def test_a_new_phase_starts_from_what_the_warm_start_expects(classes: tuple[float, ...]) -> None:
    """Before any answer it is what is predicted, by every head, and whatever was learned of another reward."""
    model, *_ = second_phase(())
    model.start_phase(classes, old_rewards)
    everything = all_pairs(60, 50)
    answer = model.predict(*everything)
    assert torch.allclose(answer.reward, old_rewards(*everything), atol=1e-5)
    assert not answer.disagreement.gt(1e-6).any()
    assert model.skill == 0.0
    model.start_phase(classes, None)
    assert not model.predict(*everything).reward.any()


def testtwo_hot_answers_keep_the_expectation() -> None:
    values = torch.tensor(sorted(CLASSES), dtype=torch.float64)
    rewards = torch.cat([values, torch.linspace(-0.1, 1.0, 23, dtype=torch.float64)])
    chances = two_hot(rewards, values)
    assert torch.allclose(chances @ values, rewards)
    assert torch.allclose(chances.sum(1), torch.ones(26, dtype=torch.float64))
    assert (chances >= 0).all()
    assert ((chances > 0).sum(1) <= 2).all()
    assert torch.allclose(chances[:3], torch.eye(3, dtype=torch.float64))
    beyond = torch.tensor([-7.0, 9.0], dtype=torch.float64)
    assert two_hot(beyond, values).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("classes", [(1.0, 0.0, 0.0), (0.5, 0.5, 0.5)])
def test_answers_that_are_worth_the_same_are_one_class(classes: tuple[float, ...]) -> None:
    model = new_model()
    model.start_phase(classes, None)
    applicants, jobs = pairs(300, 5)
    rewards = torch.tensor(classes)[torch.arange(300) % 3]
    model.observe(applicants, jobs, rewards)
    predicted = model.predict(applicants, jobs).reward
    assert predicted.isfinite().all()
    assert predicted.mean() == pytest.approx(float(rewards.mean()), abs=0.05)


def test_class_chances_are_chances() -> None:
    model, applicants, jobs, rewards = second_phase(CLASSES)
    chances = model.predict(applicants, jobs).classes
    assert torch.allclose(chances.sum(1), torch.ones(600), atol=1e-5)
    assert (chances > 0).all()
    for column, reward in enumerate(sorted(CLASSES)):  # an answer is likelier where it was given
        given = rewards == torch.tensor(reward)
        assert chances[given, column].mean() > chances[~given, column].mean()


def test_disagreement_shrinks_with_answers() -> None:
    model, everything, widths = new_model(), all_pairs(60, 50), []
    for count in (100, 400, 3200):
        some = pairs(count, count)
        model.observe(*some, noisy_cosines(*some, 12))
        widths.append(float(model.predict(*everything).disagreement.mean()))
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_resemblance_to_what_was_shown_lately_by_hand() -> None:
    """On average over all places, at most, and weighted by the answers; an empty place counts as nothing."""
    model = new_model(history=4)
    history = History(torch.tensor([[-1, -1, 7, 7], [-1] * 4]), torch.tensor([[9.0, 9.0, 0.5, -0.1], [9.0] * 4]))
    features = model.features(torch.tensor([3, 3]), torch.tensor([7, 7]), history)
    assert features.shape == (2, model.width)
    assert torch.allclose(features[:, -3:], torch.tensor([[0.5, 1.0, 0.4], [0.0, 0.0, 0.0]]).double(), atol=1e-6)


@pytest.mark.parametrize("classes", [(), CLASSES], ids=["number", "classes"])
def test_a_loaded_model_goes_on_exactly(classes: tuple[float, ...]) -> None:
    model, applicants, jobs, rewards = second_phase(classes)
    loaded = new_model()
    loaded.start_phase(classes, old_rewards)
    loaded.load({name: tensor.clone() for name, tensor in model.tensors().items()})
    assert (loaded.skill, loaded.slope) == (model.skill, model.slope)
    assert torch.equal(loaded.predict(applicants, jobs).reward, model.predict(applicants, jobs).reward)
    for each in (model, loaded):
        each.observe(jobs, jobs, rewards)
    assert model.tensors().keys() == loaded.tensors().keys()
    for name, tensor in model.tensors().items():
        assert torch.equal(loaded.tensors()[name], tensor), name


def test_what_the_warm_start_explains_is_the_adjusted_r_squared() -> None:
    model, applicants, jobs, rewards = second_phase(())
    predicted = old_rewards(applicants, jobs)
    r_squared = float(torch.corrcoef(torch.stack([predicted, rewards]).double())[0, 1] ** 2)
    assert model.explained == pytest.approx(1 - (1 - r_squared) * 599 / 598, rel=1e-5)
    model.start_phase((), old_rewards)
    model.observe(applicants, jobs, -predicted)
    assert model.explained == 0.0  # a warm start that runs against the answers
    model.start_phase((), None)
    model.observe(applicants, jobs, rewards)
    assert model.explained == 0.0  # or none
