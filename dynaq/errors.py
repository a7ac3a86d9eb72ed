"""The one tree of errors that dynaq raises on purpose.

    DynaqError
    ├── ConfigError             a knob: unknown, of the wrong type, out of range
    ├── InputError              what was given to read: a file, a mapping, a collection, a vector
    ├── ArtifactError           what dynaq wrote earlier: a snapshot or checkpoint, damaged or of another kind
    ├── MissingDependencyError  what the machine lacks: a binary, a package
    ├── LabelError              LLM feedback that cannot be had, trusted or afforded
    ├── BusyError               another run writes into the working directory
    └── TransientError          a server that did not answer; the only kind that may be tried again

Messages name the value, the bound and what to do, in one sentence, and never a URI or a key.
"""

from __future__ import annotations


class DynaqError(Exception):
    """Base of every error raised on purpose; the command line prints it as one line and exits with 2."""


class ConfigError(DynaqError):
    """A configuration key is unknown, missing, of the wrong type or out of range."""


class InputError(DynaqError):
    """A file, column mapping, collection or vector that was given cannot be used."""


class ArtifactError(DynaqError):
    """A snapshot or checkpoint on disk is damaged, of another format, or made from other inputs."""


class MissingDependencyError(DynaqError):
    """The machine lacks a binary or package; the message says what to install."""


class LabelError(DynaqError):
    """LLM feedback cannot be had, trusted or afforded; what was paid for is already stored."""


class BusyError(DynaqError):
    """Another run writes into the working directory, and ``night.on_busy`` says refuse."""


class TransientError(DynaqError):
    """A server did not answer or dropped the connection; the same call may go through later."""
