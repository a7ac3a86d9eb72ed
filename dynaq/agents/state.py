"""An agent as tensors by name: what it has learned, for a checkpoint, or everything, to go on in the middle."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.handover import Pilot
from dynaq.errors import ArtifactError

Tensors = dict[str, Tensor]


def learned(agent: DynaQ) -> Tensors:
    """What the next phase builds on: the Q-network and the experience. World models begin with each reward."""
    average = torch.tensor(agent.average_reward, dtype=torch.float64)
    return {**_named("q", agent.q.state_dict()), **_named("replay", agent.replay.tensors()), "average_reward": average}


def load_learned(agent: DynaQ, tensors: Tensors, name: str) -> None:
    """Give an agent what ``learned`` gave of another; ``start_phase`` comes next.

    Raises:
        ArtifactError: they are of an agent of other layers, or incomplete; ``name`` says which checkpoint.
    """
    if _schema(tensors) != _schema(learned(agent)):
        raise ArtifactError(f"checkpoint {name} was trained with other layers than the configuration asks for")
    agent.q.load_state_dict(_part(tensors, "q"))
    agent.replay.load(_part(tensors, "replay"))
    agent.average_reward = float(tensors["average_reward"])
    agent.learned_before = True


def agent_state(agent: DynaQ) -> Tensors:
    """Everything that decides what the agent does next: an agent given this goes on bit for bit."""
    counters = [agent.updates, agent.answers, agent.epoch, int(agent.learned_before)]
    scalars = [agent.earlier_average, *agent.line]
    state = {
        **learned(agent),
        **_named("target", agent.target.state_dict()),
        **_named("world_model", agent.world_model.tensors()),
        **_named("earlier", agent.earlier.tensors()),
        "counters": torch.tensor(counters),
        "scalars": torch.tensor(scalars, dtype=torch.float64),
        "generator": agent.generator.get_state(),
        "applied": agent.applied.pairs,
    }
    if agent.origin:
        state |= _named("origin", agent.origin.state_dict())
    if agent.anchor:
        state |= _named("anchor", agent.anchor.state_dict())
    if agent.prioritised:
        state |= _named("priorities", agent.prioritised.tensors())
    if agent.pilot:
        spread = torch.tensor([agent.pilot.spread], dtype=torch.float64)
        state |= {
            "pilot.predicted": agent.pilot.predicted,
            "pilot.answered": agent.pilot.answered,
            "pilot.spread": spread,
        }
    for index, moments in agent.optimizer.state_dict()["state"].items():
        state |= _named(f"adam.{index}", moments)
    return state


def load_agent_state(agent: DynaQ, state: Tensors) -> None:
    """Turn an agent of the same configuration into the one that ``agent_state`` was taken from.

    Raises:
        ArtifactError: the network or the replay is of another configuration.
    """
    load_learned(agent, state, "of this run")
    agent.target.load_state_dict(_part(state, "target"))
    if agent.origin:
        agent.origin.load_state_dict(_part(state, "origin"))
    if anchor := _part(state, "anchor"):
        agent.anchor = copy.deepcopy(agent.q)
        agent.anchor.load_state_dict(anchor)
    agent.world_model.load(_part(state, "world_model"))
    agent.earlier.load(_part(state, "earlier"))
    agent.updates, agent.answers, agent.epoch, before = state["counters"].tolist()
    agent.learned_before = bool(before)
    agent.earlier_average, *line = state["scalars"].tolist()
    agent.line = (line[0], line[1])
    agent.generator.set_state(state["generator"])
    agent.applied.pairs = state["applied"]
    if agent.prioritised:
        agent.prioritised.load(_part(state, "priorities"))
    agent.pilot = None
    if pilot := _part(state, "pilot"):
        wanted = agent.config.hand_over.pilot
        agent.pilot = Pilot(wanted, pilot["predicted"], pilot["answered"], pilot["spread"].item())
    optimizer = agent.optimizer.state_dict()
    optimizer["state"] = {
        index: moments
        for index in range(len(optimizer["param_groups"][0]["params"]))
        if (moments := _part(state, f"adam.{index}"))
    }
    agent.optimizer.load_state_dict(optimizer)
    agent.freeze_target()


def _named(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}.{name}": tensor.detach() for name, tensor in tensors.items()}


def _schema(tensors: Tensors) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shapes and types of the weights; the replay looks at its own, whose lengths vary."""
    return {
        name: (tensor.shape, tensor.dtype)
        for name, tensor in tensors.items()
        if name.startswith("q.") or name == "average_reward"
    }


def _part(tensors: Tensors, prefix: str) -> Tensors:
    start = prefix + "."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
