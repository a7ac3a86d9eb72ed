"""The field of a night: who meets which markets, and where the checkpoints lie that they start from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from dynaq.agents import stages
from dynaq.agents.arms import Arm, arms
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError
from dynaq.evaluation.champion import Rival
from dynaq.evaluation.contestants import Contestant, agents, contestants
from dynaq.evaluation.market.world import OWN, World, worlds


@dataclass(frozen=True)
class Entry:
    """A contestant, the worlds it meets, and the checkpoint it starts from at a seed."""

    contestant: Contestant
    worlds: list[World]
    starts: dict[int, Path | None]


@dataclass(frozen=True)
class Field:
    """Who takes part tonight, and where their checkpoints lie.

    Attributes:
        config, snapshot: of the night.
        reward: name of the LLM's reward.
        weight: how far its labels counted; at 0 nothing was fine-tuned, and nobody with labels takes part.
    """

    config: Config
    snapshot: Snapshot
    reward: str
    weight: float

    @property
    def budgets(self) -> list[int]:
        """Of the contestants with labels."""
        return self.config.finetune.budgets if self.weight > 0 else []

    @property
    def seeds(self) -> range:
        """Of the markets and of the agents."""
        return range(self.config.seed, self.config.seed + self.config.compare.seeds)

    @property
    def wants_labelled_panel(self) -> bool:
        """Whether the dial turns towards the LLM, whose labels of the panel are needed then."""
        dial = self.config.compare.dial
        return bool(dial.levels) and "llm" in dial.rewards and self.weight > 0

    def entries(self, rewards: Collection[str]) -> Iterator[Entry]:
        """Everybody meets the evaluator's own market, and the agents at the configured discount all dialled ones.

        ``rewards`` are those that the panel has: a market can be dialled towards no other.
        """
        dial = self.config.compare.dial
        dialled = worlds(dial.model_copy(update={"rewards": [name for name in dial.rewards if name in rewards]}))
        gamma, own = self.config.agent.gamma, [World(OWN)]
        mapped = agents(gamma, self.budgets)
        for contestant in contestants(gamma, self.budgets):
            starts = {seed: self.checkpoint(contestant, seed) for seed in self.seeds}
            yield Entry(contestant, own + dialled if contestant in mapped else own, starts)

    def fresh_seeds(self, challenger: Path) -> range:
        """Of the title match: as the best of many, the challenger had luck in the markets in which it was chosen.

        Every challenger has its own, for the champion had luck in those in which it was crowned.
        """
        first = self.seeds.stop + int(blake2b(challenger.name.encode()).hexdigest()[:6], 16)
        return range(first, first + len(self.seeds))

    def contender(self, kind: Literal["challenger"] | Rival, checkpoint: Path | None, markets: range) -> Entry:
        """One checkpoint in the markets of these seeds; the baseline has none, but other random weights in each."""
        contestant = Contestant(kind, self.config.agent.gamma)
        return Entry(contestant, [World(OWN)], dict.fromkeys(markets, checkpoint))

    def at_launch(self) -> dict[Contestant, Path | None]:
        """The agents as they go live, first seed and largest budget, with their checkpoints; and the raw cosine."""
        gamma, seed = self.config.agent.gamma, self.config.seed
        trained = [each for each in agents(gamma, self.budgets[-1:]) if each.kind != "baseline"]
        return {each: self.checkpoint(each, seed) for each in [*trained, Contestant("raw cosine", gamma)]}

    def checkpoint(self, contestant: Contestant, seed: int) -> Path | None:
        """What a contestant starts from, or whose labels it learns from; None for whoever needs nothing."""
        arm = contestant.trained(seed)
        if arm is None:
            return None
        if not contestant.labels:
            return stages.pretrained_path(self.config, self.snapshot, arm)
        return stages.finetuned_path(
            self.config, self.snapshot, arm, self.reward, self.weight, budget=contestant.labels
        )

    def trained(self) -> dict[Arm, Path]:
        """The last checkpoint of every arm that was trained."""
        paths = {arm: stages.pretrained_path(self.config, self.snapshot, arm) for arm in arms(self.config, "cosine")}
        if self.weight > 0:
            for arm in arms(self.config, "llm", "hybrid"):
                paths[arm] = stages.finetuned_path(self.config, self.snapshot, arm, self.reward, self.weight)
        return paths

    def check(self) -> None:
        """Raise ArtifactError if an arm has not been trained with this configuration on this snapshot."""
        paths = self.trained()
        if missing := [arm.name for arm, path in paths.items() if not path.exists()]:
            raise ArtifactError(
                f"{len(missing)} of {len(paths)} arms have no checkpoint on snapshot {self.snapshot.path.name} with"
                f" this configuration ({missing[0]}, ...): run the pretrain and finetune flows first"
            )
