"""Every number that a night has found as plain JSON, so that two nights can be compared byte by byte."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from dynaq.evaluation.report.night import Night


def figures(night: Night) -> dict[str, Any]:
    """Numbers only: no times, no paths; what is not a number (NaN) is None.

    The study, and beside it the quality of pre-training, the lists of other judges, and what changed words did. Rows go
    by the slug of their contestant, cells of the map by market and budget.
    """
    study = night.study
    plain: dict[str, Any] = _plain(study)
    plain |= {name: _plain(getattr(night, name)) for name in ("similarity", "relevance", "fairness")}
    plain["rows"] = {row.contestant.slug: _plain(row) for row in study.rows}
    plain["map"] = {f"{cell.world.name}-n{cell.labels}": _plain(cell) for cell in study.map}
    plain["leads"] = {f"{first} - {second}": _plain(lead) for (first, second), lead in study.leads.items()}
    return plain


def figures_json(night: Night) -> str:
    """The same as text: sorted keys, floats as repr writes them, so that none is rounded."""
    return json.dumps(figures(night), sort_keys=True, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
