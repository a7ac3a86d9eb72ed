from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from scripted_server import Script, Served, serving

from dynaq.config import LabelValues, LLMConfig


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Served]]:
    """Start a scripted server that ends with the test."""
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(serving(script))


@pytest.fixture
def llm_config() -> LLMConfig:
    return LLMConfig(
        values=LabelValues(apply=1.0, save=0.5, ignore=-0.1),
        concurrency=8,
        timeout_s=5.0,
        max_retries=0,
        temperature=0.0,
        max_field_chars=500,
        max_missing_share=0.2,
    )
