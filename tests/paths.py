"""Where things lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
BASE_CONFIG = ROOT / "configs" / "base.yaml"
