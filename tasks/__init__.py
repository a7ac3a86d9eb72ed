"""Retryable Prefect tasks: each a few lines that call the library and return paths, digests or small figures.

Every task can be repeated: what it would write is named by a digest of its inputs, and a finished output is reused.
"""

from __future__ import annotations

import logging
import os

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "dynaq")
# Prefect writes the error of a flow that failed, and reads results, where its storage is: perhaps a shared place.
os.environ.setdefault("PREFECT_RESULTS_DEFAULT_SERIALIZER", "json")  # not its pickle
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")  # the library also runs without a flow

from dynaq.errors import DynaqError
from dynaq.processes import end_with_parent


class _OneSentence(logging.Filter):
    """An error raised on purpose is a sentence, on the console and on Prefect's pages; its traceback says no more."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DynaqError):
            record.msg, record.args, record.exc_info = f"{type(error).__name__}: {error}", (), None
        return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_OneSentence())
end_with_parent()  # whoever unpickles a task in a pool comes by here
