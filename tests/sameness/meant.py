"""Differences that are meant; docs/playbooks.md lists them with the reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = Sequence[Any] | None
# As JSON writes a value that is covered, or a part of one.
_COVERED = re.compile(r'"?\*{8}"?')


@dataclass(frozen=True)
class Meant:
    """A difference in what is told of a task.

    Attributes:
        name: What it is.
        holds: Whether what Ansible and what we told differ in that alone.
    """

    name: str
    holds: Callable[[Entry, Entry], bool]


def covers(wanted: Entry, found: Entry) -> bool:
    """Whether we told what Ansible did, but for what is covered."""
    parts = _COVERED.split(json.dumps(found))
    pattern = ".*".join(map(re.escape, parts))
    return len(parts) > 1 and re.fullmatch(pattern, json.dumps(wanted)) is not None


MEANT: Mapping[str, Meant] = {
    "vault": Meant("texts out of Vault are covered in what is shown", covers),
}

# Modules that check mode skips, as Ansible does.
SKIPPED_AHEAD = (
    "command", "fetch", "raw", "reboot", "script", "shell", "uri", "wait_for_connection",
)  # fmt: skip
# Why a task is announced otherwise than it is then done, by the word that playbooks mark it with.
UNKNOWN_AHEAD: Mapping[str, str] = {
    "program": "it follows from what a program does, which check mode does not run",
    "units": "it follows from the state of another unit, which an earlier task would change",
    "lists": "lists of packages would be fetched, or an archive made, before",
    "packages": "dnf and pip answer of what is there, not of what earlier tasks would bring",
    "kernel": "whether the kernel has what is asked for shows when it is done",
    "index": "whether there is such a package: an earlier task may bring the index that has it",
    "user": "it is done as a user that is not there yet",
    "asks": "it asks whether it runs in check mode",
}
# Of these not even right before it is done.
UNKNOWN_UNTIL_DONE = ("kernel", "index")
# At the end of a task's first line in a playbook: why it is not known ahead.
_MARK = re.compile(r"# not known ahead: (\w+)$")


def why_unknown_ahead(line: str) -> str | None:
    """The word that a task's first line is marked with; None where it is known ahead.

    Raises:
        KeyError: The playbook gives a reason that nobody has written down.
    """
    mark = _MARK.search(line)
    return mark[1] if mark is not None and UNKNOWN_AHEAD[mark[1]] else None
