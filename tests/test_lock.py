"""The lock file is what constraints.txt and pyproject.toml say, with the hash of every file."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import ROOT

EXTRAS = ("embedded", "minilm", "retrieval", "dask", "dev")
BENCH_ONLY = {"hoptorch", "pyvers", "tensordict", "torchrl"}

Pins = dict[str, Requirement]


def pins(text: str) -> Pins:
    lines = [line for line in text.splitlines() if re.match(r"\w", line)]
    requirements = [Requirement(line.removesuffix("\\")) for line in lines]
    return {canonicalize_name(each.name): each for each in requirements}


TEXT = (ROOT / "requirements.lock").read_text()
LOCKED, CONSTRAINED = pins(TEXT), pins((ROOT / "constraints.txt").read_text())
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DECLARED = PYPROJECT["project"]


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


def test_every_file_has_a_hash_and_no_host_is_named() -> None:
    blocks = re.split(r"\n(?=\w)", TEXT)[1:]
    assert len(blocks) == len(LOCKED) > 150
    assert [block for block in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}", block)] == []
    assert "://" not in TEXT


def test_versions_are_those_of_the_constraints() -> None:
    both = LOCKED.keys() & CONSTRAINED.keys()
    assert [name for name in both if version(LOCKED[name]) != version(CONSTRAINED[name])] == []
    assert CONSTRAINED.keys() - LOCKED.keys() == {"torch"} | BENCH_ONLY
    others = LOCKED.keys() - CONSTRAINED.keys()  # of other versions of Python than the constraints were frozen with
    assert [name for name in others if "python_full_version" not in str(LOCKED[name].marker)] == []


def test_versions_are_in_the_declared_ranges() -> None:
    extras = [each for name in EXTRAS for each in DECLARED["optional-dependencies"][name]]
    for requirement in map(Requirement, [*DECLARED["dependencies"], *extras]):
        name = canonicalize_name(requirement.name)
        pin = (CONSTRAINED if name == "torch" else LOCKED)[name]
        assert requirement.specifier.contains(version(pin)), f"{requirement} is locked at {version(pin)}: make lock"


def test_what_torch_needs_and_what_builds_us_is_locked_too() -> None:
    of_cuda = ("nvidia", "cuda", "triton")  # as much a matter of the index as torch itself
    needed = [each for each in map(Requirement, requires("torch") or ()) if not each.name.startswith(of_cuda)]
    needed = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    assert len(needed) > 4
    for requirement in [*needed, *map(Requirement, PYPROJECT["build-system"]["requires"])]:
        assert requirement.specifier.contains(version(LOCKED[canonicalize_name(requirement.name)])), requirement
