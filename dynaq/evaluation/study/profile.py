"""What a recommender is like at one moment: its ranking of the panel, whom it serves, what it believes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dynaq.agents.dyna_q import DynaQ
from dynaq.evaluation.judges.ranking import coverage, diversity, gini, ndcg, share_of_best, top
from dynaq.evaluation.market.environment import OnlineEnvironment
from dynaq.protocols import Recommender

_BINS = 10
_ASKED = 10  # jobs for each applicant that a world model is asked about, if so many are left
_NEVER = 2**32  # a step that never comes: its candidates are a draw of their own

Floats = NDArray[np.float32]


def profile(recommender: Recommender, environment: OnlineEnvironment, rewards: dict[str, Floats]) -> dict[str, Any]:
    """Measure a recommender between two steps.

    Args:
        recommender: asked for scores only; nothing is shown to anybody.
        environment: whose panel is ranked.
        rewards: training rewards of its pairs, [A, J] by name.

    Returns:
        ``ndcg`` float64 [A], gains being the chances while nobody is tired; ``coverage``; ``diversity``; ``gini`` of
        what was shown so far; ``reached``: the share of the best that the first of the ranking has, of a random choice
        0, under the market and under each training reward; ``calibration`` of a world model: predicted and true
        chance of each tenth of random pairs, as things stand.

    Raises:
        InputError: a score is no finite number.
    """
    scores, truth = environment.scores_of(recommender), environment.market.base_chances()
    first = top(scores)[:, :1]
    reached = {
        name: share_of_best(np.take_along_axis(values, first, axis=1), values)
        for name, values in {"market": truth, **rewards}.items()
    }
    shown = environment.shown()
    return {
        "ndcg": ndcg(scores, truth),
        "coverage": coverage(scores),
        "diversity": diversity(scores, environment.market.looks),
        "gini": gini(shown, truth.shape[1]) if shown.size else None,
        "reached": {name: value if value == value else None for name, value in reached.items()},
        "calibration": _calibration(recommender, environment) if isinstance(recommender, DynaQ) else None,
    }


def _calibration(agent: DynaQ, environment: OnlineEnvironment) -> list[tuple[float, float]] | None:
    """Mean predicted and mean true chance of each tenth of random pairs, by prediction; None before any answer.

    The pairs are still on offer and their chances are those of this moment: the market that the model learned from.
    """
    if not agent.answers:
        return None
    market = environment.market
    left = int((~market.gone).sum(axis=1).min())
    columns = market.candidates(_NEVER, min(_ASKED, left))
    jobs = environment.everything().gather(1, torch.from_numpy(columns))
    with torch.no_grad():
        predicted = agent.predict(environment.applicants, jobs).reward.numpy()
    true = market.chances(columns).ravel()
    tenths = np.array_split(np.argsort(predicted, kind="stable"), _BINS)
    return [(float(predicted[rows].mean()), float(true[rows].mean())) for rows in tenths]
