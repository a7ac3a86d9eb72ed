"""What the README says exists."""

from __future__ import annotations

import json
import os
import re
import shlex

import pytest
import yaml

from dynaq.config_file import load_config
from flows.__main__ import _parser
from tests.paths import BASE_CONFIG, ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.strip() for line in README.splitlines() if line.startswith("    ") and not line.strip().startswith("|")
]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make ([a-z-]+)(?![\w-]*,)", " ".join(re.findall(r"`make [^`]+`", README) + COMMANDS)))
    assert {"demo", "test", "services", "real", "lint"} <= named
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.M)] == []


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_knobs_exist() -> None:
    sections = yaml.safe_load(BASE_CONFIG.read_text())
    knobs = re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)`", README)
    assert len(knobs) > 4
    assert [knob for knob in knobs if knob.split(".")[1] not in sections[knob.split(".")[0]]] == []


def test_environment_variables_are_read() -> None:
    sources = "".join(path.read_text() for package in ("dynaq", "flows") for path in (ROOT / package).rglob("*.py"))
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", README))
    assert "MONGODB_URI" in named
    assert [name for name in named if f'"{name}"' not in sources] == []


@pytest.mark.parametrize("line", [line for line in COMMANDS if "-m flows" in line])
def test_flow_commands_are_valid(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    options = _parser().parse_args(shlex.split(line.split("-m flows")[1]))
    overrides = dict(text.split("=", 1) for text in options.set)
    load_config(options.config, {key: yaml.safe_load(value) for key, value in overrides.items()})


def test_deployment_run_has_valid_overrides() -> None:
    (given,) = re.findall(r"-p overrides='([^']+)'", README)
    load_config(BASE_CONFIG, json.loads(given))


def test_ci_calls_the_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
