"""This machine: Python, packages, the encoding of files, and the working directory."""

from __future__ import annotations

import locale
import os
import platform
import tempfile
from collections.abc import Iterable, Set
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dynaq.config import Config
from dynaq.doctor.finding import Finding


def check_python(wanted: str) -> Finding:
    """Whether this Python is among those that are asked for, such as ``>=3.11``."""
    found = platform.python_version()
    if SpecifierSet(wanted).contains(found, prereleases=True):
        return Finding("ok", found)
    return Finding("FAIL", f"{found} is not {wanted}", "make the virtual environment with another one")


def needed_extras(config: Config) -> set[str]:
    """The extras of the package that a night of this configuration imports."""
    embeds, fans_out = config.market or config.ingest, config.dask
    return {name for name, needed in (("minilm", embeds), ("dask", fans_out)) if needed}


def check_packages(declared: Iterable[str], extras: Set[str]) -> Finding:
    """Whether what is installed is in the declared ranges, and all of it there that is needed.

    Args:
        declared: requirements as packages write them: ``torch<3,>=2.5; extra == "dev"``.
        extras: those of which nothing may be missing.
    """
    wrong: dict[str, str] = {}  # what to install -> what is there instead
    seen = 0
    for requirement in map(Requirement, declared):
        name, range_ = requirement.name, str(requirement.specifier)
        marker = requirement.marker
        try:
            found = version(name)
        except PackageNotFoundError:
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                wrong[f"{name}{range_}"] = f"{name} is missing"
            continue
        seen += 1
        if not requirement.specifier.contains(found, prereleases=True):
            wrong[f"{name}{range_}"] = f"{name} {found} is not {range_}"
    if wrong:
        install = " ".join(f"'{each}'" for each in wrong)
        return Finding("FAIL", ", ".join(wrong.values()), f"pip install --constraint constraints.txt {install}")
    return Finding("ok", f"{seen} installed, all in the ranges that dynaq declares")


def check_locale() -> Finding:
    """Whether files are read and written as UTF-8."""
    encoding = locale.getpreferredencoding(False)
    if encoding.lower().replace("-", "") == "utf8":
        return Finding("ok", encoding)
    return Finding("warn", f"files are read as {encoding}", "export PYTHONUTF8=1")


def check_workdir(path: Path) -> Finding:
    """Whether the working directory is there, or can be made, and takes a file that reaches the disk."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding("FAIL", f"{path} cannot be written to: {error.strerror}", "correct workdir or its rights")
    return Finding("ok", str(path))
