"""The manifest of a checkpoint that no agent was trained for."""

from __future__ import annotations

from typing import Any

from dynaq.tracking.checkpoint import CheckpointManifest

SNAPSHOT = "5" * 64


def a_manifest(**changes: Any) -> CheckpointManifest:
    """One of an agent pre-trained on SNAPSHOT, but for the fields given."""
    given: dict[str, Any] = {
        "stage": "pretrain",
        "agent": "cosine",
        "gamma": 0.3,
        "seed": 0,
        "snapshot": SNAPSHOT,
        "rewards": ["cosine"],
        "labels": 0,
        "cost": {},
        "gradient_steps": 1,
        "config": {},
    }
    return CheckpointManifest(**given | changes)
