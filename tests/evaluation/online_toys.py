"""A night in miniature, and an LLM that needs no server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.evaluation.contestants import Contestant
from tests.paths import BASE_CONFIG

SEED, STEPS, APPLICANTS = 1, 12, 10
COSINE, BASELINE = Contestant("cosine", 0.3), Contestant("baseline", 0.3)
TUNED = {"finetune.budgets": [20, 60], "finetune.applicants_per_step": 10, "agent.hand_over.pilot": 10}


def configured(workdir: Path, **changes: Any) -> Config:
    small = {
        "workdir": str(workdir),
        "agent.hidden": [32],
        "agent.learning_rate": 0.005,
        "agent.batch_size": 32,
        "compare.applicants": APPLICANTS,
        "compare.steps": STEPS,
        "compare.window": 3,
        "pretrain": {"steps": 40, "applicants_per_step": 32, "updates_per_step": 3},
        **TUNED,
    }
    return load_config(BASE_CONFIG, small | {name.replace("__", "."): value for name, value in changes.items()})


class Titles:
    """An LLM's reward that likes some jobs: known without a server."""

    name = "llm:titles"
    labels_used = 60
    classes = (1.0, 0.5, -0.1)

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        return ((jobs * 7 + applicants) % 5).float() / 4

    def cost(self) -> dict[str, int]:
        return {"tokens_of_labels": 600}

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        pass
