"""What an update is compared with: the least that any must do, the textbook's DQN, and an installable peer's."""

from __future__ import annotations

import copy
import importlib.util
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.network import PairNetwork
from dynaq.agents.targets import bellman_targets
from dynaq.mdp.candidates import CandidateSampler
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.replay import Transitions


def plain_network(network: PairNetwork) -> nn.Sequential:
    """The same weights as a textbook writes them, over concatenated inputs."""
    return copy.deepcopy(nn.Sequential(network.first, network.middle, network.last))


class Floor:
    """Forward and backward of one batch that already lies in memory: no replay, no gather, no target, no optimiser."""

    def __init__(self, network: PairNetwork, size: int) -> None:
        self.network = plain_network(network)
        self.inputs, self.targets = torch.randn(size, network.first.in_features), torch.rand(size)

    def __call__(self) -> None:
        self.network.zero_grad(set_to_none=True)
        F.mse_loss(self.network(self.inputs).squeeze(1), self.targets).backward()


class PlainDQN:
    """The textbook's update (Mnih et al. 2015): every pair of next state and candidate through the whole network.

    Args:
        agent: gives replay, vectors and weights.
        block: states whose candidates are valued at once.
    """

    def __init__(self, agent: DynaQ, block: int) -> None:
        self.space, self.sampler, self.replay, self.block = agent.space, agent.sampler, agent.replay, block
        self.config = agent.config
        self.q, self.target = plain_network(agent.q), plain_network(agent.target)
        self.optimizer = torch.optim.Adam(self.q.parameters(), lr=agent.config.learning_rate, fused=True)
        self.generator = torch.Generator().manual_seed(2)

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        candidates = self.sampler.draw(batch.next_seeds)
        states = self.space.states[batch.applicants]
        blocks = zip(states.split(self.block), candidates.split(self.block), strict=True)
        values = torch.cat([score_slates(self.target, s, self.space.actions[jobs]) for s, jobs in blocks])
        return bellman_targets(batch.rewards, batch.terminated, values.max(dim=1).values, self.config.gamma)

    def __call__(self) -> None:
        batch = self.replay.sample(self.config.batch_size, self.generator)
        targets = self.targets(batch)
        pairs = torch.cat([self.space.states[batch.applicants], self.space.actions[batch.jobs]], dim=1)
        loss = F.mse_loss(self.q(pairs).squeeze(1), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def score_slates(network: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
    """Values of candidates, every pair concatenated: [B, Ds], [B, n, Da] -> [B, n]."""
    repeated = states[:, None].expand(-1, actions.shape[1], -1)
    values: Tensor = network(torch.cat([repeated, actions], dim=2)).squeeze(-1)
    return values


class Slates(nn.Module):
    """A Q-network as TorchRL wants it: the observation names the candidates, an action is a place among them."""

    def __init__(self, network: nn.Sequential, space: FeatureSpace) -> None:
        super().__init__()
        self.network, self.space = network, space

    def forward(self, applicants: Tensor, candidates: Tensor) -> Tensor:
        return score_slates(self.network, self.space.states[applicants], self.space.actions[candidates])


class PeerDQN:
    """TorchRL's DQNLoss over slates; the observation before holds the job shown and nothing else.

    Rows of the catalogue instead of vectors spare it replay memory, and one candidate instead of a hundred half of
    the forward pass and most of the backward one: this is the best that we could do for it.
    """

    def __init__(self, agent: DynaQ) -> None:
        from tensordict.nn import TensorDictModule
        from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
        from torchrl.modules import QValueActor
        from torchrl.objectives import DQNLoss, HardUpdate, ValueEstimators

        slates = Slates(plain_network(agent.q), agent.space)
        module = TensorDictModule(slates, in_keys=["applicant", "candidates"], out_keys=["action_value"])
        actor = QValueActor(module, in_keys=["applicant", "candidates"], action_space="categorical")
        self.loss = DQNLoss(actor, loss_function="l2", delay_value=True, action_space="categorical")
        self.loss.make_value_estimator(ValueEstimators.TD0, gamma=agent.config.gamma)
        self.updater = HardUpdate(self.loss, value_network_update_interval=agent.config.target_sync)
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=agent.config.learning_rate, fused=True)
        self.replay = TensorDictReplayBuffer(
            storage=LazyTensorStorage(agent.replay.size), batch_size=agent.config.batch_size
        )
        self.replay.extend(self.observed(agent.replay.newest(agent.replay.size), agent.sampler))

    @staticmethod
    def observed(batch: Transitions, sampler: CandidateSampler, space: FeatureSpace | None = None) -> object:
        """Transitions as TorchRL keeps them, of rows, or of vectors if a space is given."""
        from tensordict import TensorDict

        applicants, shown, following = batch.applicants, batch.jobs[:, None], sampler.draw(batch.next_seeds)
        if space is None:
            before = {"applicant": applicants.int(), "candidates": shown.int()}
            after = {"applicant": applicants.int(), "candidates": following.int()}
        else:
            before = {"applicant": space.states[applicants], "candidates": space.actions[shown]}
            after = {"applicant": space.states[applicants], "candidates": space.actions[following]}
        ended = batch.terminated[:, None]
        outcome = {"reward": batch.rewards[:, None], "done": ended, "terminated": ended}
        place = torch.zeros(len(shown), dtype=torch.int64)
        return TensorDict({**before, "action": place, "next": {**after, **outcome}}, batch_size=[len(shown)])

    def __call__(self) -> None:
        loss = self.loss(self.replay.sample())["loss"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.updater.step()


def peer_dqn(agent: DynaQ) -> PeerDQN | None:
    if importlib.util.find_spec("torchrl") is None:
        print("\nno row for TorchRL, it is not installed: pip install -c constraints.txt -e '.[bench]'")
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a peer's own
        return PeerDQN(agent)
