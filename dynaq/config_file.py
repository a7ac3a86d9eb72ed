"""From a YAML file, what it extends and overrides to a checked configuration, or one sentence on what is wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dynaq.config import Config
from dynaq.errors import ConfigError


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Read a YAML file, what it extends, and dotted overrides such as ``{"agent.gamma": 0.0}``.

    Raises:
        ConfigError: a file is missing or no mapping, or a key is unknown, missing, mistyped or out of range.
    """
    tree = _read_yaml(Path(path))
    for dotted, value in (overrides or {}).items():
        _set_dotted(tree, dotted, value)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        changed = f" with {', '.join(overrides)} changed" if overrides else ""
        raise ConfigError(f"{path}{changed}: {_explain(error)}") from None


def _read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path} extends itself")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"cannot read the configuration {path}: {reason}") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise ConfigError(f"{path} is not valid YAML{line}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of knobs, found {type(tree).__name__}")
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    return merged(_read_yaml(path.parent / str(parent), (*seen, path.resolve())), tree)


# Mappings of names are whole values: a preset that maps two columns must not inherit the other's four.
NAMED_BY_USERS = {"columns", "attributes", "job_vectors", "applicant_vectors", "job_text", "applicant_text"}


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A tree of knobs with those of another put over it."""
    tree = dict(base)
    for key, value in change.items():
        inherited = tree.get(key)
        if isinstance(inherited, dict) and isinstance(value, dict) and key not in NAMED_BY_USERS:
            value = merged(inherited, value)
        tree[key] = value
    return tree


def _set_dotted(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    node: Any = tree
    for depth, key in enumerate(parents):
        node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            sections = ", ".join(key for key, value in tree.items() if isinstance(value, dict))
            raise ConfigError(
                f"override {dotted}: there is no section {'.'.join(parents[: depth + 1])} among {sections}"
            )
    if leaf not in node:
        raise ConfigError(f"override {dotted}: there is no such key; {', '.join(map(str, node))} exist here")
    node[leaf] = value


def _explain(error: ValidationError) -> str:
    """All problems in one line, each with its dotted key, the value given and what was wanted."""
    problems = []
    for issue in error.errors():
        key = ".".join(str(part) for part in issue["loc"]) or "configuration"
        if issue["type"] == "extra_forbidden":
            problems.append(f"{key} is no known key")
        elif issue["type"] == "missing":
            problems.append(f"{key} is missing")
        else:
            silent = isinstance(issue["input"], dict) or key.endswith("uri")  # an address may hold a password
            given = ":" if silent else f" is {issue['input']!r}:"
            problems.append(f"{key}{given} {issue['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)


def expand_environment(path: str) -> Path:
    """Replace ``${NAME}`` in a path by the environment variable.

    Raises:
        ConfigError: the variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"path {path} needs the environment variable {name}, which is not set")
        return os.environ[name]

    return Path(re.sub(r"\$\{(\w+)\}", value, path))
