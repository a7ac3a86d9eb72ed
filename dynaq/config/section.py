"""What all groups of knobs have in common: frozen, typed, bounded, without defaults."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _stays_inside(path: str) -> str:
    """A relative path and ``${NAME}/file`` lead into no directory beside the one where they begin."""
    if ".." in PurePath(path).parts:
        raise ValueError("it takes no '..': write the directory that it leads to, or a ${NAME} for it")
    return path


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]
TablePath = Annotated[Name, AfterValidator(_stays_inside)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A group of knobs: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
