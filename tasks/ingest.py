"""Tables into MongoDB, and texts to vectors."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from prefect import task

from dynaq.agents.stages import one_thread
from dynaq.config import Config, TableConfig
from dynaq.data.connection import open_database
from dynaq.data.embed import EmbedReport, Range, embed_documents, pending_ranges
from dynaq.data.ingest import IngestReport, forget_other_generated, load_documents
from dynaq.data.market import generate_market, market_tables
from dynaq.embedding.minilm import MiniLM
from tasks.retry import RETRY

Side = Literal["jobs", "applicants"]


@task(**RETRY)
def make_market(config: Config) -> Path:
    """Generate the demo market's tables; returns their directory."""
    assert config.market is not None
    directory = config.work_path / "market"
    generate_market(config.market, directory)
    return directory


def source_table(config: Config, side: Side, market: Path | None) -> tuple[TableConfig, str]:
    """The table of one side and the name of the section that describes it."""
    tables = market_tables(market) if market else config.ingest
    assert tables is not None
    return getattr(tables, side), f"ingest.{side}"


@task(**RETRY)
def load_table(config: Config, side: Side, market: Path | None) -> IngestReport:
    """Upsert one table into its text collection; of generated documents, only those of this market stay."""
    table, section = source_table(config, side, market)
    texts, vectors, id_field, _ = _places(config, side)
    with open_database(config.mongo, config.work_path) as database:
        if market:
            forget_other_generated(database, texts, vectors, id_field, table)
        return load_documents(database, texts, table, section=section, generated=market is not None)


@task(**RETRY)
def find_changed(config: Config, side: Side) -> tuple[list[Range], int]:
    """Where texts of one side have changed, and how many documents are up to date."""
    with open_database(config.mongo, config.work_path) as database:
        return pending_ranges(database, *_places(config, side), _encoder().name, config.embedding)


@task(**RETRY)
def embed_range(config: Config, side: Side, only: Range) -> EmbedReport:
    """Embed the texts of a range that have changed."""
    with open_database(config.mongo, config.work_path) as database, one_thread():
        return embed_documents(database, *_places(config, side), _encoder(), config.embedding, only)


@cache
def _encoder() -> MiniLM:
    """One a process: loading it takes as long as embedding a few hundred texts."""
    return MiniLM()


def _places(config: Config, side: Side) -> tuple[str, str, str, dict[str, str]]:
    """Of one side: the text collection, the vector collection, its field with the id, text field -> vector field."""
    mongo, names = config.mongo, config.mongo.collections
    if side == "jobs":
        return names.jobs, names.job_embeddings, mongo.job_id, mongo.job_vectors
    return names.applicants, names.applicant_embeddings, mongo.applicant_id, mongo.applicant_vectors
