"""Configuration: what the presets say, how files and overrides merge, and one clear sentence for whatever is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dynaq.config_file import expand_environment, load_config
from dynaq.errors import ConfigError
from tests.paths import BASE_CONFIG, ROOT

CONFIGS = ROOT / "configs"
NAME_MAPPINGS = {"job_vectors", "applicant_vectors", "job_text", "applicant_text"}  # their keys are free


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    """A file to write into, one directory below ``tmp_path``."""
    (tmp_path / "presets").mkdir()
    return tmp_path / "presets" / "night.yaml"


def refusal(path: Path, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_loads_without_an_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYNAQ_REAL_DATA", raising=False)
    config = load_config(path)
    assert {"demo": config.market is not None, "real": config.ingest is not None}.get(path.stem, True)
    assert (config.name == "base") == (path == BASE_CONFIG)


def test_the_environment_is_read_only_when_a_table_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ingest = load_config(CONFIGS / "real.yaml").ingest
    assert ingest is not None
    monkeypatch.delenv("DYNAQ_REAL_DATA", raising=False)
    with pytest.raises(ConfigError, match="needs the environment variable DYNAQ_REAL_DATA, which is not set"):
        expand_environment(ingest.jobs.path)
    monkeypatch.setenv("DYNAQ_REAL_DATA", "/tables")
    assert expand_environment(ingest.jobs.path) == Path("/tables/usajobs_postings.parquet")
    assert expand_environment("${DYNAQ_REAL_DATA}/a/${DYNAQ_REAL_DATA}") == Path("/tables/a//tables")
    assert expand_environment("$HOME/{x}.csv") == Path("$HOME/{x}.csv")


def test_a_preset_changes_only_what_it_says(preset: Path, tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text(f"extends: {BASE_CONFIG}\nagent: {{gamma: 0.5, epsilon: {{start: 0.9}}}}\n")
    preset.write_text("extends: ../shared.yaml\nagent: {gamma: 0.6}\n")
    expected = load_config(BASE_CONFIG).model_dump()
    expected["agent"]["gamma"] = 0.6
    expected["agent"]["epsilon"]["start"] = 0.9
    assert load_config(preset).model_dump() == expected


def test_mappings_of_names_replace_what_they_inherit(preset: Path) -> None:
    preset.write_text(f"extends: {BASE_CONFIG}\nextract: {{job_text: {{title: name}}}}\n")
    extract = load_config(preset).extract
    assert extract.job_text == {"title": "name"}
    assert extract.applicant_text == load_config(BASE_CONFIG).extract.applicant_text


def test_overrides_win_over_files(preset: Path) -> None:
    preset.write_text(f"extends: {BASE_CONFIG}\nagent: {{gamma: 0.5}}\n")
    market = {"jobs": 10, "applicants": 5, "seed": 1}
    config = load_config(preset, {"agent.gamma": 0, "market": market, "market.jobs": 20, "tracking.uri": "sqlite://"})
    assert (config.agent.gamma, config.market and config.market.jobs, config.tracking.uri) == (0, 20, "sqlite://")


def test_a_written_configuration_is_read_as_it_was(preset: Path) -> None:
    config = load_config(CONFIGS / "real.yaml", {"agent.learning_rate": 1e-5})
    preset.write_text(yaml.safe_dump(config.model_dump()))
    assert load_config(preset) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"agent.gama": 0}, "override agent.gama: there is no such key; features, history, hidden,"),
        ({"agents.gamma": 0}, "override agents.gamma: there is no section agents"),
        ({"agent.gamma.x": 0}, "override agent.gamma.x: there is no section agent.gamma"),
        ({"market.jobs": 5}, "override market.jobs: there is no section market"),
        ({"agent.gamma": 1.0}, "agent.gamma is 1.0: Input should be less than 1"),
        ({"agent.gamma": float("nan")}, "agent.gamma is nan: Input should be"),
        ({"agent.hidden": []}, "agent.hidden is []: List should have at least 1 item"),
        (
            {"agent.features": "cosin"},
            "agent.features is 'cosin': Input should be 'concat', 'product', 'cosine' or 'res",
        ),
        ({"agent.target": "closed_form", "agent.applied_from": 0.5}, "target closed_form needs a static state"),
        ({"agent.history": {"length": 9, "width": 9, "blocks": 1, "heads": 2}}, "width is 9, which 2 heads do not"),
        ({"agent.hand_over.pilot": 500}, "agent.hand_over.pilot takes 500: that leaves less than one step of 25"),
        ({"agent.hand_over.earlier": 9, "finetune.budgets": [50, 500]}, "which a budget of 50 leaves without a scale"),
        ({"agent.learning_rate": "1e-3"}, "agent.learning_rate is '1e-3': Input should be a valid number"),
        ({"compare.seeds": 1}, "compare.seeds is 1: Input should be greater than or equal to 2"),
        ({"compare.seeds": True}, "compare.seeds is True: Input should be a valid integer"),
        ({"compare.applicants": 1.5}, "compare.applicants is 1.5: Input should be a valid integer"),
        ({"split.jobs": 0}, "split.jobs is 0: Input should be greater than 0"),
        ({"seed": -1}, "seed is -1: Input should be greater than or equal to 0"),
        ({"seed": 2**32}, "seed is 4294967296: Input should be less than 4294967296"),
        ({"name": ""}, "name is '': String should have at least 1 character"),
        ({"agent": 5}, "agent is 5: Input should be a valid dictionary"),
        ({"market": {"jobs": 5}}, "market.applicants is missing; market.seed is missing"),
        # Knobs that must fit each other.
        ({"extract.cosine_pairs": [["soft", "pay"]]}, "extract: cosine_pairs names [soft, pay], which is not a pair"),
        ({"extract.cosine_pairs": []}, "as many applicant fields as job fields, here 2 and 4: list cosine_pairs"),
        ({"extract.job_fields": ["title", "title"]}, "extract: job_fields names title more than once"),
        (
            {"mongo.collections.jobs": "llm_feedback"},
            "mongo.collections: collections names llm_feedback more than once",
        ),
        ({"agent.slate": 51}, "agent: slate is 51, but only 50 candidates are drawn"),
        ({"tracking.experiment": "a/b"}, "tracking.experiment is 'a/b': the champion is registered under this name"),
        (
            {"night.timezone": "Berlin"},
            "night.timezone is 'Berlin': there is no such time zone; write UTC or a name as",
        ),
        ({"night.cron": "0 2 * *"}, "night.cron is '0 2 * *': String should match pattern"),
        ({"night.cron": "99 99 * * *"}, "night.cron is '99 99 * * *': Bad minute; write minute, hour, day, month and"),
        ({"night.cron": "0 2 31 4,6 *"}, "night.cron is '0 2 31 4,6 *': Bad day-of-month"),
        ({"night.longest_h": 0}, "night.longest_h is 0: Input should be greater than 0"),
        ({"night.on_busy": "go"}, "night.on_busy is 'go': Input should be 'wait' or 'refuse'"),
        ({"agent.slate": 3}, "finetune.budgets has 50, but a step asks for 75: name multiples of that"),
        ({"finetune.budgets": [200, 50]}, "finetune.budgets is [200, 50]: budgets must ascend"),
        ({"compare.window": 41}, "compare: window is 41, but there are only 40 steps"),
        (
            {"extract.job_fields": ["title", "skills", "soft_skills", "pay"]},
            "extract.job_fields names ['pay'], mongo.job_vectors has ['title', 'skills', 'soft_skills', 'experience']",
        ),
        (
            {"mongo.applicant_vectors": {"hard_skills": "v"}},
            "extract.applicant_fields names ['soft_skills'], mongo.applicant_vectors has ['hard_skills']",
        ),
    ],
)
def test_a_bad_knob_is_named_with_its_value_and_bound(overrides: dict[str, Any], message: str) -> None:
    assert message in refusal(BASE_CONFIG, overrides)


def test_a_night_cannot_read_tables_and_generate_them() -> None:
    message = refusal(CONFIGS / "real.yaml", {"market": {"jobs": 10, "applicants": 5, "seed": 0}})
    assert message.endswith("market and ingest are both set: a night reads tables or generates them, not both")


@pytest.mark.parametrize(
    ("key", "value"),
    [("llm.values.apply", float("nan")), ("llm.timeout_s", float("inf")), ("agent.learning_rate", float("inf"))],
)
def test_numbers_are_finite(key: str, value: float) -> None:
    assert f"{key} is {value}" in refusal(BASE_CONFIG, {key: value})


@pytest.mark.parametrize("uri", ["http://anna:sesame@mlflow.internal", ["http://anna:sesame@mlflow.internal"]])
def test_an_address_with_a_password_is_refused_and_not_repeated(uri: object) -> None:
    message = refusal(BASE_CONFIG, {"tracking.uri": uri})
    assert "tracking.uri" in message
    assert "sesame" not in message


def test_all_problems_are_told_at_once(preset: Path) -> None:
    preset.write_text(f"extends: {BASE_CONFIG}\nsed: 1\ncompare: {{window: 0, epsilon: 2}}\n")
    message = refusal(preset)
    assert message.startswith(f"{preset}: ")
    assert set(message.removeprefix(f"{preset}: ").split("; ")) == {
        "compare.epsilon is 2: Input should be less than or equal to 1",
        "compare.window is 0: Input should be greater than or equal to 1",
        "sed is no known key",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "night.yaml must hold a mapping of knobs, found list"),
        (b"", "night.yaml must hold a mapping of knobs, found NoneType"),
        (b"seed: 1\nname: [a\nworkdir: b\n", "night.yaml is not valid YAML at line 3"),
        (b"name: \xe9t\xe9\n", "night.yaml: not UTF-8 text"),
        (b"extends: night.yaml\n", "night.yaml extends itself"),
        (b"extends: nowhere.yaml\n", "nowhere.yaml: No such file or directory"),
        (b"extends: .\n", "presets: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read(preset: Path, content: bytes, message: str) -> None:
    preset.write_bytes(content)
    assert message in refusal(preset)


def test_a_file_that_is_not_there_and_a_circle_of_two(tmp_path: Path) -> None:
    assert "cannot read the configuration" in refusal(tmp_path / "nowhere.yaml")
    for name, parent in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {parent}.yaml\n")
    assert "extends itself" in refusal(tmp_path / "a.yaml")


def sections(tree: dict[str, Any], prefix: str = "") -> dict[str, list[str]]:
    """The keys of every section; a section is named by its dotted key and a dot, the root by nothing."""
    found = {prefix: list(tree)}
    for key, value in tree.items():
        if isinstance(value, dict) and key not in NAME_MAPPINGS:
            found |= sections(value, f"{prefix}{key}.")
    return found


def test_every_key_of_the_base_is_needed(preset: Path) -> None:
    """No default hides in the code: whatever is taken away, section by section, is missed by name."""
    every = sections(yaml.safe_load(BASE_CONFIG.read_text()))
    assert {"", "mongo.collections.", "agent.world_model.", "llm.values."} < set(every)
    for prefix, keys in every.items():
        tree = yaml.safe_load(BASE_CONFIG.read_text())
        section = tree
        for parent in prefix.split(".")[:-1]:
            section = section[parent]
        section.clear()
        preset.write_text(yaml.safe_dump(tree))
        assert refusal(preset) == f"{preset}: " + "; ".join(f"{prefix}{key} is missing" for key in keys)
