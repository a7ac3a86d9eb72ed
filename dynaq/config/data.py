"""Where documents come from, and what of them goes into a snapshot."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from dynaq.config.section import Count, Name, Positive, Section, Seed, Share, TablePath


class MarketConfig(Section):
    """Size and seed of a generated demo market."""

    jobs: Count
    applicants: Count
    seed: Seed


class Collections(Section):
    """Names of the MongoDB collections."""

    jobs: Name
    job_embeddings: Name
    applicants: Name
    applicant_embeddings: Name
    labels: Name
    experiences: Name
    spending: Name

    @model_validator(mode="after")
    def _one_purpose_each(self) -> Self:
        _distinct("collections", list(self.model_dump().values()))
        return self


class Versions(Section):
    """Fields that have another value whenever a document has changed; null: the documents are read every time."""

    vectors: Name | None
    texts: Name | None


class MongoConfig(Section):
    """Where documents lie and what their fields are called. The address is the secret MONGODB_URI."""

    database: Name
    timeout_s: Positive
    collections: Collections
    job_id: Name
    applicant_id: Name
    job_vectors: dict[Name, Name]
    applicant_vectors: dict[Name, Name]
    versions: Versions

    @model_validator(mode="after")
    def _one_field_each(self) -> Self:
        _distinct("job_vectors", list(self.job_vectors.values()))
        _distinct("applicant_vectors", list(self.applicant_vectors.values()))
        return self


class TableConfig(Section):
    """One table of postings or applicants, and which of its columns feed which field.

    Attributes:
        path: a .csv, .jsonl or .parquet file; ``${NAME}`` is taken from the environment; without ``..``.
        id: the column with the stable id.
        columns: text field -> columns joined into it. Their vectors are computed.
        attributes: plain field -> column, carried along for prompts and the evaluator.
    """

    path: TablePath
    id: Name
    columns: dict[Name, Annotated[list[Name], Field(min_length=1)]]
    attributes: dict[Name, Name]


class IngestConfig(Section):
    """The two tables that the ingest flow reads."""

    jobs: TableConfig
    applicants: TableConfig


class EmbeddingConfig(Section):
    """How text becomes vectors."""

    batch_size: Count
    documents_per_commit: Count


class ExtractConfig(Section):
    """What goes into a snapshot."""

    job_fields: Annotated[list[Name], Field(min_length=1)]
    applicant_fields: Annotated[list[Name], Field(min_length=1)]
    dimension: Count
    cosine_pairs: list[Annotated[list[Name], Field(min_length=2, max_length=2)]]
    job_text: dict[Name, Name]
    applicant_text: dict[Name, Name]
    batch_size: Count
    readers: Count
    max_quarantined_share: Share

    @model_validator(mode="after")
    def _cosine_is_defined(self) -> Self:
        _distinct("job_fields", self.job_fields)
        _distinct("applicant_fields", self.applicant_fields)
        for applicant_field, job_field in self.cosine_pairs:
            if applicant_field not in self.applicant_fields or job_field not in self.job_fields:
                raise ValueError(
                    f"cosine_pairs names [{applicant_field}, {job_field}], which is not a pair of"
                    f" applicant_fields {self.applicant_fields} and job_fields {self.job_fields}"
                )
        if not self.cosine_pairs and len(self.applicant_fields) != len(self.job_fields):
            raise ValueError(
                f"the cosine of concatenations needs as many applicant fields as job fields, here"
                f" {len(self.applicant_fields)} and {len(self.job_fields)}: list cosine_pairs instead"
            )
        return self


class SplitConfig(Section):
    """Shares of applicants and of jobs that are never trained on, kept for the comparison."""

    applicants: Annotated[float, Field(gt=0, lt=1)]
    jobs: Annotated[float, Field(gt=0, lt=1)]


def _distinct(what: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{what} names {', '.join(twice)} more than once")
