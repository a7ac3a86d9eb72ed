"""Fairness by counterfactuals, for the agents of a night: what a name or a gendered word changes in what they show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.maxima import fresh_values
from dynaq.agents.stages import one_thread
from dynaq.artifacts import code_version, finished, inputs_key, publish, readable
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.fairness.counterfactual import Swing, counterfactual_states, measure
from dynaq.evaluation.fairness.counterfactual_words import NAME_PAIRS, SAME_GENDER_PAIRS, named, reword, swap
from dynaq.evaluation.judges.ranking import TOP
from dynaq.evaluation.online import base_chances
from dynaq.evaluation.panel import Panel, read_panel
from dynaq.evaluation.starts import starting
from dynaq.mdp.features import FeatureSpace
from dynaq.protocols import Encoder

APPLICANTS = 50  # of the panel, whose texts are changed: an encoder reads some hundreds of texts
_PAIRS = 2  # of names
_GENDERED, _NEUTRAL = "gendered words swapped", "as many neutral words swapped"
_OTHER_GENDER, _SAME_GENDER = "a man's name, then a woman's", "two names of one gender"

Floats = NDArray[np.float32]
States = dict[str, Floats]


def changed_states(config: Config, snapshot: Snapshot, panel: Path, encoder: Encoder) -> Path:
    """States of some applicants of the panel with their texts changed, embedded once; returns the directory.

    Raises:
        InputError: the snapshot's vectors are not what this encoder makes of its texts.
    """
    key = inputs_key(panel=panel.name, snapshot=snapshot.manifest.digest, encoder=encoder.name, code=code_version())
    target = config.work_path / "fairness" / key
    if not finished(target, config.work_path):
        rows = read_panel(panel).applicants[:APPLICANTS]
        names = [name for pair in NAME_PAIRS[:_PAIRS] for name in pair]
        changes: dict[str, Callable[[str], str]] = {
            "swapped": swap,
            "reworded": reword,
            **{name: partial(named, name=name) for name in names},
        }
        states = {what: counterfactual_states(snapshot, rows, encoder, change) for what, change in changes.items()}
        with publish(target) as directory:
            np.savez(directory / "states.npz", **states)  # type: ignore[arg-type]
    return target


def swings(
    config: Config, snapshot: Snapshot, panel: Path, states: Path, starts: dict[Contestant, Path | None]
) -> list[tuple[str, str, Swing]]:
    """How far each contestant's ranking of the panel moves at launch: its name, what was changed, by how much.

    Below each change of gender stands the neutral one that it is held against.

    Raises:
        ArtifactError: the states are missing or damaged.
    """
    read, changed = read_panel(panel), _read(states)
    rows, space = read.applicants[:APPLICANTS], FeatureSpace.of(snapshot)
    worth = base_chances(config, snapshot, read, np.arange(len(rows)))
    own = space.states[torch.from_numpy(rows)].numpy()
    same = [pair for pair in SAME_GENDER_PAIRS if set(pair) <= changed.keys()]
    versions = {
        _GENDERED: (own, changed["swapped"]),
        _NEUTRAL: (own, changed["reworded"]),
        _OTHER_GENDER: _stacked(changed, [(man, woman) for woman, man in NAME_PAIRS[:_PAIRS]]),
        _SAME_GENDER: _stacked(changed, same),
    }
    found = []
    with one_thread():
        for contestant, start in starts.items():
            learner = starting(config, snapshot, read, contestant, config.seed, start).learner

            def score(given: Floats, learner: object = learner) -> Floats:
                return _scores(learner, space, given, read)

            moves = {
                what: measure(score, before, after, k=min(TOP, len(read.jobs)), worth=worth)
                for what, (before, after) in versions.items()
            }
            neutral = {_GENDERED: moves[_NEUTRAL], _OTHER_GENDER: moves[_SAME_GENDER]}
            found += [(contestant.name, what, Swing.of(each, neutral.get(what))) for what, each in moves.items()]
    return found


def _stacked(changed: States, pairs: list[tuple[str, str]]) -> tuple[Floats, Floats]:
    """Both versions of every pair of names: float32 [P, A, Ds] each."""
    return np.stack([changed[a] for a, _ in pairs]), np.stack([changed[b] for _, b in pairs])


def _scores(learner: object, space: FeatureSpace, states: Floats, panel: Panel) -> Floats:
    """What a contestant says of the panel's jobs for states that are no row of the snapshot: [A, Ds] -> [A, J]."""
    rows = torch.from_numpy(states)
    if isinstance(learner, DynaQ):
        with torch.no_grad():
            learner.q.eval()
            jobs = torch.from_numpy(panel.jobs).expand(len(rows), -1)
            return fresh_values(learner.q, rows, jobs, space.actions).numpy()
    actions, d = space.actions[torch.from_numpy(panel.jobs)], space.d
    cosines = [rows[:, i : i + d] @ actions[:, j : j + d].T / d for i, j in space.pairs]
    return torch.stack(cosines).mean(0).numpy()


def _read(path: Path) -> States:
    with readable("states", path), (path / "states.npz").open("rb") as file, np.load(file) as arrays:
        return dict(arrays)
