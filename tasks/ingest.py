"""Tables into MongoDB, and texts to vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefect import task

from dynaq.config import Config, TableConfig
from dynaq.data.connection import open_database
from dynaq.data.embed import EmbedReport, embed_documents
from dynaq.data.ingest import IngestReport, load_documents
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
    """Upsert one table into its text collection."""
    table, section = source_table(config, side, market)
    collection = getattr(config.mongo.collections, side)
    with open_database(config.mongo, config.work_path) as database:
        return load_documents(database, collection, table, section=section, generated=market is not None)


@task(**RETRY)
def embed_side(config: Config, side: Side) -> EmbedReport:
    """Embed the texts of one side that have changed."""
    names = config.mongo.collections
    collection, vectors_collection, id_field, vectors = {
        "jobs": (names.jobs, names.job_embeddings, config.mongo.job_id, config.mongo.job_vectors),
        "applicants": (
            names.applicants,
            names.applicant_embeddings,
            config.mongo.applicant_id,
            config.mongo.applicant_vectors,
        ),
    }[side]
    with open_database(config.mongo, config.work_path) as database:
        return embed_documents(database, collection, vectors_collection, id_field, vectors, MiniLM(), config.embedding)
