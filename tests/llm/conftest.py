from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from scripted_server import Script, Served, serving

from dynaq.config import LLMConfig
from dynaq.config_file import load_config
from tests.paths import BASE_CONFIG


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Served]]:
    """Start a scripted server that ends with the test."""
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(serving(script))


@pytest.fixture
def llm_config() -> LLMConfig:
    """The defaults, but impatient."""
    impatient = {"concurrency": 8, "timeout_s": 5.0, "max_retries": 0, "patience_s": 0.0}
    return load_config(BASE_CONFIG).llm.model_copy(update=impatient)
