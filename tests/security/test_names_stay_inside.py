"""A name from MLflow, a manifest or a caller leads into no other directory."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.manifest import Manifest
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError, ConfigError, DynaqError, InputError
from dynaq.tracking.registry import Registered, Registry
from tasks.labelling import named_day
from tests.paths import BASE_CONFIG

OUTSIDE = ["../outside", "..", "/etc/outside", "below/../../outside"]


@pytest.mark.parametrize("weights", ["../../../../etc/x", "", "5" * 63, "5" * 64 + "\n"])
def test_weights_of_a_champion_name_its_directory(weights: str) -> None:
    assert Registered("dynaq", 1, "run", {"weights": "5" * 64}).weights
    with pytest.raises(ArtifactError, match="was not registered by dynaq"):
        _ = Registered("dynaq", 1, "run", {"weights": weights}).weights


@pytest.mark.parametrize("name", OUTSIDE)
def test_files_of_a_snapshot(small_snapshot: Snapshot, name: str) -> None:
    tree = json.loads(small_snapshot.manifest.model_dump_json())
    assert Manifest.model_validate(tree)
    tree["files"][name] = tree["files"]["jobs_ids.json"]
    with pytest.raises(ValidationError, match="no file of the snapshot"):
        Manifest.model_validate(tree)


@pytest.mark.parametrize("path", ["../people.csv", "${DYNAQ_REAL_DATA}/../../people.csv"])
def test_a_table_lies_where_its_path_begins(path: str) -> None:
    def table(path: str) -> dict[str, Any]:
        return {"llm.audit.human": {"path": path, "applicant": "a", "job": "j", "action": "said"}}

    assert load_config(BASE_CONFIG, table("${DYNAQ_REAL_DATA}/people..csv")).llm.audit.human
    with pytest.raises(ConfigError, match=rf"llm\.audit\.human\.path is '{re.escape(path)}': it takes no '..'"):
        load_config(BASE_CONFIG, table(path))


@pytest.mark.parametrize("day", [*OUTSIDE, "2026-13-01", "today"])
def test_a_day_names_a_directory(day: str) -> None:
    assert named_day("2026-11-21") == "2026-11-21"
    with pytest.raises(InputError, match="it must be a date"):
        named_day(day)


@pytest.fixture(params=["../../outside", "/{home}/outside", "..%2f..%2foutside"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Config]:
    """An MLflow server whose run lists, beside a checkpoint's files, one that lies elsewhere."""
    strange = request.param.format(home=tmp_path).replace("//", "/")
    files = ["weights.safetensors", "manifest.json", "curves.json", strange]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            answer: Any = "content"
            if address.path.endswith("/runs/get"):
                run = {"run_id": "r", "run_uuid": "r", "experiment_id": "0", "status": "FINISHED"}
                answer = {"run": {"info": {**run, "artifact_uri": "mlflow-artifacts:/0/r"}, "data": {}}}
            elif address.path.endswith("/mlflow-artifacts/artifacts"):
                (folder,) = parse_qs(address.query)["path"]
                inside = folder.endswith("checkpoint")
                listed = [{"path": name, "is_dir": False, "file_size": 9} for name in files]
                answer = {"files": listed if inside else [{"path": "checkpoint", "is_dir": True}]}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield load_config(BASE_CONFIG, {"workdir": str(tmp_path), "tracking.uri": url})
        server.shutdown()
        thread.join()


def test_files_of_a_checkpoint_in_mlflow(config: Config, tmp_path: Path) -> None:
    directory = tmp_path / "below" / "directory"
    directory.mkdir(parents=True)
    with pytest.raises(DynaqError):
        Registry(config).fetch(Registered("dynaq", 1, "r", {"weights": "5" * 64}), directory)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
