"""What the tests of labels share: texts of a small market, a server that answers as told, questions."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pymongo.database import Database

from dynaq.config import LLMConfig
from dynaq.config_file import load_config
from dynaq.data.journal import Journal
from dynaq.data.labels import LabelStore
from dynaq.data.ledger import Ledger
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import Endpoint
from dynaq.llm.prompt import build_prompt
from dynaq.rewards.budget import Budget
from dynaq.rewards.labeller import Labeller
from dynaq.rewards.question import Question
from tests.paths import BASE_CONFIG

SKILLS = ("Python, SQL, Airflow, Spark", "baking, pastry, food hygiene, menus", "welding, CNC, blueprints, safety")


@dataclass
class Texts:
    """As much of a snapshot as is shown to an LLM."""

    applicant_texts: list[dict[str, str]]
    job_texts: list[dict[str, str]]

    @property
    def applicant_ids(self) -> list[str]:
        return [f"applicant-{row}" for row in range(len(self.applicant_texts))]

    @property
    def job_ids(self) -> list[str]:
        return [f"job-{row}" for row in range(len(self.job_texts))]


TEXTS: Any = Texts(
    applicant_texts=[{"hard_skills": SKILLS[row % 3], "place": f"City {row}"} for row in range(6)],
    job_texts=[{"title": f"Job {row}", "skills": SKILLS[row % 3]} for row in range(60)],
)
CONFIG = load_config(BASE_CONFIG).llm.model_copy(
    update={"concurrency": 8, "timeout_s": 5.0, "max_retries": 0, "patience_s": 0.0}
)


_TEMPORARY = tempfile.TemporaryDirectory(prefix="dynaq-journal-")
JOURNAL = Path(_TEMPORARY.name)


def open_labeller(
    database: Database[dict[str, Any]],
    client: LabelClient,
    config: LLMConfig = CONFIG,
    journal: Path = JOURNAL,
) -> Labeller:
    """Labels of a test's database, on the account of the test."""
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "test")
    kept = Journal(journal, store, ledger)
    kept.redo()
    return Labeller(store, client, config, Budget(config, ledger), kept)


def questions(count: int, sample: int = 0) -> list[Question]:
    """About the same applicant, each with another job."""
    return [
        Question("a", f"j{n}", build_prompt({"hard_skills": SKILLS[0]}, {"title": f"Job {n}"}, 100), sample)
        for n in range(count)
    ]


@contextmanager
def server(
    answer: Callable[[int, str], tuple[int, str]], model: str | Callable[[], str] = "gpt-x-2025", tokens: int = 7
) -> Iterator[Endpoint]:
    """Answers (number of the request, prompt) with a status and a reply, or the code of an error, as that model."""
    numbers = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, reply = answer(next(numbers), asked["messages"][-1]["content"])
            named = model if isinstance(model, str) else model()
            answered = {
                "model": named,
                "choices": [{"message": {"content": reply}}],
                "usage": {"prompt_tokens": tokens},
            }
            body = json.dumps(answered if status == 200 else {"error": {"message": "no", "code": reply}})
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    serving = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        url = f"http://127.0.0.1:{serving.server_address[1]}/v1"
        yield Endpoint("gpt-x", SecretStr(url), SecretStr("sk-secret"))
    finally:
        serving.shutdown()
        serving.server_close()
        thread.join()


LABEL = '{"apply": 0.5, "save": 0.2, "ignore": 0.3, "reason": "skills"}'
