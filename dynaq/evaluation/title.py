"""A night's decision about the champion, written down before it is carried out.

A night that dies between the crowning and its report is tried again. Were the registry asked then who reigns, the
challenger would meet itself, and no report would tell of the crowning. What is written down here holds instead, until
the report is out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dynaq.artifacts import code_version, inputs_key, publish, readable
from dynaq.config import Config
from dynaq.evaluation.champion import Decision


@dataclass(frozen=True)
class Title:
    """A decision and whom it is about.

    Attributes:
        decision: what becomes of the challenger.
        run: key of the challenger's run in MLflow, in the try that has decided.
        met: the checkpoint of the champion of that time; None where none reigned, or MLflow did not give it.
    """

    decision: Decision
    run: str
    met: Path | None


def title_path(config: Config, online: Sequence[Path], challenger: Path) -> Path:
    """Where a night writes its decision down: its runs are known when it is tried again, the champion it met is not."""
    key = inputs_key(
        online=[path.name for path in online],
        challenger=challenger.name,
        margin=config.compare.margin,
        experiment=config.tracking.experiment,
        code=code_version(),
    )
    return config.work_path / "titles" / key


def write_title(target: Path, title: Title) -> None:
    """Write a decision down, whole or not at all."""
    with publish(target) as directory:
        (directory / "title.json").write_text(json.dumps(asdict(title), default=str) + "\n")


def read_title(path: Path) -> Title:
    """Read what ``write_title`` wrote.

    Raises:
        ArtifactError: the directory is missing or damaged.
    """
    with readable("title", path):
        record = json.loads((path / "title.json").read_text())
        met = Path(record["met"]) if record["met"] else None
        return Title(Decision(**record["decision"]), record["run"], met)
