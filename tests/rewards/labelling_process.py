"""A process that labels and may be killed: python -m tests.rewards.labelling_process MONGO WORKDIR URL COUNT."""

from __future__ import annotations

import sys
from pathlib import Path

from dynaq.config import MongoConfig
from dynaq.data.connection import open_database
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import rule_sim_endpoint
from tests.rewards.given import CONFIG, open_labeller, questions

CONCURRENCY, BATCH = 16, 500
PATIENT = CONFIG.model_copy(
    update={"concurrency": CONCURRENCY, "timeout_s": 4.0, "max_retries": 4, "max_missing_share": 1.0}
)

if __name__ == "__main__":
    mongo, workdir, url, count = sys.argv[1:]
    with (
        open_database(MongoConfig.model_validate_json(mongo), Path(workdir)) as database,
        LabelClient(rule_sim_endpoint(url), PATIENT) as client,
    ):
        labeller = open_labeller(database, client, PATIENT, Path(workdir) / "journal")
        asked = questions(int(count))
        for first in range(0, len(asked), BATCH):
            labeller(asked[first : first + BATCH])
