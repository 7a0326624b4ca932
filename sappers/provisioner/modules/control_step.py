"""The steps of modules that are conducted from the control machine; Python as it is here.

A module's `conduct` is a generator as `plan` is. What it wants of the host it asks by running
another module there; what it does here is told by steps: it touches nothing itself, and is tested
by data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sappers.provisioner.modules.record import Record


class OnHost(Record):
    """A module is run on the host; its result. `unreachable` is in it where the host is away."""

    module: str
    args: Mapping[str, Any]


class Raw(Record):
    """A command line is run in the host's shell, without Python; `step.Completed`."""

    line: str
    executable: str | None = None


class Disconnect(Record):
    """The connection to the host is closed; what asks the host next opens another."""


class Prompt(Record):
    """What a person answers; None where nobody can be asked."""

    text: str
    echo: bool = True


class Kept(Record):
    """SHA-1 of a file of the control machine, below a folder; None where there is none.

    Attributes:
        names: The way from the folder to the file; links on it are not followed.
    """

    folder: str
    names: tuple[str, ...]


class Keep(Record):
    """A part of a file is written below a folder of the control machine.

    Attributes:
        names: As of `Kept`.
        first: It is the first part; what was left of another try goes.
        last: It takes the file's place, if it is what it should be.
        sha1: What all of it has to be; None: whatever came.
    """

    folder: str
    names: tuple[str, ...]
    content: bytes
    first: bool
    last: bool
    sha1: str | None = None


class Now(Record):
    """Seconds since 1970."""
