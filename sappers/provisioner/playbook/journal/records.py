"""What a run's journal consists of: one record a line, JSON; never a secret, never a pickle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from sappers.errors import JournalError
from sappers.provisioner.playbook.journal.fingerprint import task_digest
from sappers.provisioner.playbook.language.model import Task

VERSION = 2
FAILURES = ("failed", "unreachable")


class Begun(msgspec.Struct, frozen=True, tag="run", omit_defaults=True):
    """The first record: which run it is.

    Attributes:
        fingerprint: Of the playbooks (`fingerprint`): another one is another playbook.
        at: When it began, Unix time in seconds.
        extra: Names of the variables of `-e`; their values may be secret.
    """

    version: int
    fingerprint: str
    at: float
    limit: str | None = None
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    start_at_task: str | None = None
    extra: tuple[str, ...] = ()


class Playing(msgspec.Struct, frozen=True, tag="play"):
    """A play begins on these hosts."""

    hosts: tuple[str, ...]


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """Tasks are about to be sent to a host: from here on they may be done, whoever hears of it."""

    host: str
    tasks: tuple[str, ...]


class Done(msgspec.Struct, frozen=True, tag="done", omit_defaults=True):
    """How a task ended on a host.

    Attributes:
        task: Its key; see `key_of`.
        outcome: A `judge.Outcome`.
        result: None where it must not be kept (`no_log`, a secret) or cannot be.
        needed: Later tasks may ask for what it told (`register`, facts).
    """

    host: str
    task: str
    name: str
    outcome: str
    result: Any = None
    notified: tuple[str, ...] = ()
    no_log: bool = False
    needed: bool = False

    @property
    def failed(self) -> bool:
        """Whether the host went no further, or only to a `rescue`."""
        return self.outcome in FAILURES

    @property
    def is_enough(self) -> bool:
        """Whether the task need not be run again to know what it told."""
        return self.result is not None or not self.needed or self.failed


class Mended(msgspec.Struct, frozen=True, tag="mended"):
    """A `rescue` took care of what had failed on a host."""

    host: str


class Unsure(msgspec.Struct, frozen=True, tag="unsure"):
    """Tasks that a run before had sent, or had to do again: what they changed may show no more."""

    host: str
    tasks: tuple[str, ...]


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The run came to its end, however that was."""


Record = Begun | Playing | Sent | Done | Mended | Unsure | Ended
_decoder = msgspec.json.Decoder(Record)


def key_of(task: Task) -> str:
    """What a task is called in a journal: where it is written, its module, and a digest of it."""
    place = task.place
    where = f"{Path(place.path).name}:{place.line}:{place.column}"
    return f"{where} {task.module} {task_digest(task)}"


def shown_key(key: str) -> str:
    """A task's key for a person."""
    return key.rpartition(" ")[0]


def encode_all(records: Iterable[Record]) -> bytes:
    """Records as lines."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def decode_all(content: bytes, path: str) -> list[Record]:
    """The records of a journal; what a crash has left torn at its end is left out.

    Raises:
        JournalError: It is damaged elsewhere, or of another version.
    """
    records: list[Record] = []
    torn: int | None = None
    *lines, _ = content.split(b"\n")  # a line without its end was not written to its end
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            torn = torn or number
            continue
        if torn:
            raise JournalError(f"{path}: line {torn} is damaged", hint="run it without --resume")
    if records and not (isinstance(records[0], Begun) and records[0].version == VERSION):
        raise JournalError(f"{path} is no journal of this version", hint="run it without --resume")
    return records
