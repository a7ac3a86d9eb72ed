"""Real job views (Kaggle's kandij/job-recommendation-datasets) as the tables that configs/views.yaml reads.

    python -m tests.bench.views --data FOLDER --out FOLDER

FOLDER of --data holds kandij_views_train.csv, kandij_jobs.csv, kandij_applicant_experience.csv and
kandij_positions_of_interest.csv. Into that of --out go applicants.parquet (who has both views and a text),
jobs.parquet, views_test.parquet (of each such applicant with three distinct jobs or more the one that was first
viewed last) and views_train.parquet (all other views, also those of applicants without a text: popularity is
theirs too).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

FEWEST = 3  # distinct jobs of an applicant with a held-out view
PAIR = ["applicant_id", "job_id"]


def applicants(experience: pd.DataFrame, interests: pd.DataFrame, views: pd.DataFrame) -> pd.DataFrame:
    """One row an applicant that has views and a text, lines joined; no text is an empty one."""
    texts = pd.DataFrame(
        {
            "interests": _joined(interests, "position_of_interest"),
            "positions": _joined(experience, "position_name"),
            "descriptions": _joined(experience, "description"),
        }
    ).fillna("")
    seen = texts.index.isin(views["applicant_id"])
    return texts[seen & (texts != "").any(axis=1)].rename_axis("applicant_id").reset_index()


def split(views: pd.DataFrame, who: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out pairs of views; views of the same job again are one pair."""
    first = views.sort_values(["view_start", "job_id"]).drop_duplicates(PAIR)[PAIR]
    groups = first.groupby("applicant_id")["job_id"]
    last = (groups.cumcount(ascending=False) == 0) & (groups.transform("size") >= FEWEST)
    held_out = last & first["applicant_id"].isin(who)
    return first[~held_out], first[held_out]


def _joined(rows: pd.DataFrame, column: str) -> pd.Series:
    """Each applicant's distinct texts, a line each, in the order of the file."""
    filled = rows.dropna(subset=[column]).drop_duplicates(["applicant_id", column])
    return filled.groupby("applicant_id")[column].agg("\n".join)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(asked.data / f"kandij_{name}.csv")

    views = table("views_train")
    people = applicants(table("applicant_experience"), table("positions_of_interest"), views)
    train, test = split(views, people["applicant_id"])
    jobs = table("jobs")[["job_id", "title", "position", "industry"]]
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("applicants", people), ("jobs", jobs), ("views_train", train), ("views_test", test)):
        rows.to_parquet(asked.out / f"{name}.parquet", index=False)
        print(f"{name}: {len(rows):,} rows")


if __name__ == "__main__":
    main()
