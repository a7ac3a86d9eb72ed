"""Lines of JSON by number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynaq.data import lines
from dynaq.data.lines import JsonLines
from dynaq.errors import ArtifactError

TEXTS = [{"title": "plain"}, {}, {"title": "a\u2028b \u00e9"}, {"title": "x" * 50}]


def test_every_line_is_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_CHUNK", 5)  # lines cross it
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in TEXTS), encoding="utf-8")
    read = JsonLines(path)
    assert len(read) == 4
    assert list(read) == TEXTS
    assert (read[-1], read[1:3]) == (TEXTS[3], TEXTS[1:3])
    with pytest.raises(IndexError):
        _ = read[4]


def test_an_empty_file_has_no_lines_and_a_missing_or_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    with pytest.raises(ArtifactError, match=r"cannot read .*texts\.jsonl: No such file"):
        JsonLines(path)
    path.touch()
    assert list(JsonLines(path)) == []
    path.write_bytes(b'{"a": "1"}\n{"a": \xff}\n')
    read = JsonLines(path)
    assert read[0] == {"a": "1"}
    with pytest.raises(ArtifactError, match=r"texts\.jsonl is damaged at line 2"):
        _ = read[1]
