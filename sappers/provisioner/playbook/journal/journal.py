"""A run's journal on disk: appended to as it goes, synced before anything is sent to a host."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from sappers.durable import write_durably
from sappers.errors import JournalError
from sappers.provisioner.playbook.journal.records import Record, decode_all, encode_all
from sappers.provisioner.playbook.journal.resume import Standing, what_stands


def journal_path(folder: Path, playbooks: Sequence[Path], inventory: Sequence[str]) -> Path:
    """Where the journal of the newest run of these playbooks on this inventory is."""
    sources = [str(Path(one).absolute()) if Path(one).exists() else one for one in inventory]
    named = "\n".join([*sources, *(str(one.absolute()) for one in playbooks)])
    digest = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()
    return folder / f"{playbooks[0].stem}-{digest[:12]}.jsonl"


def read_standing(path: Path) -> Standing | None:
    """What stands of the run that a journal is of; None where there is no journal.

    Raises:
        JournalError: It cannot be read, or is damaged.
    """
    descriptor = _opened(path)
    if descriptor is None:
        return None
    try:
        with os.fdopen(descriptor, "rb") as file:
            content = file.read()
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    return what_stands(decode_all(content, str(path)))


def _opened(path: Path) -> int | None:
    """A descriptor to read a journal that nobody else can have written; None: there is none.

    What it says is taken for what hosts have said, and what was done for done.

    Raises:
        JournalError: It is another user's, others may write to it, or it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    there = os.fstat(descriptor)
    plain = stat.S_ISREG(there.st_mode) and not there.st_mode & 0o022
    if not plain or there.st_uid not in (os.geteuid(), 0):
        os.close(descriptor)
        raise JournalError(
            f"{path} is no file that its owner, user {there.st_uid}, alone may write to, "
            f"and user {os.geteuid()} believe (mode {stat.S_IMODE(there.st_mode):04o})",
            hint="if it is yours: chown it to you, and chmod 600; else remove it, and leave out "
            "--resume and @retry",
        )
    return descriptor


class Journal:
    """An open journal. Several threads may write to it; it is locked while the run lasts."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._written = 0
        self._synced = 0

    @classmethod
    def begin(cls, path: Path, records: Iterable[Record]) -> Self:
        """A new journal in the place of the one before, whole or not at all.

        Raises:
            JournalError: It cannot be written, or the run that writes the old one still lasts.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(path, encode_all(records))
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError as error:
            raise JournalError(
                f"the journal {path} cannot be written: {error.strerror}",
                hint="SAPPERS_HOME may name another folder",
            ) from error
        return cls(path, descriptor)

    def append(self, *records: Record) -> None:
        """Add records. Raises JournalError."""
        with self._lock:
            try:
                content = encode_all(records)
                while content:
                    content = content[os.write(self._descriptor, content) :]
            except OSError as error:
                raise self._error(error) from error
            self._written += 1

    def sync(self) -> None:
        """Have all that was added on the disk. Who comes while another syncs may be done with it.

        Raises:
            JournalError: The disk does not take it.
        """
        with self._lock:
            wanted = self._written
        with self._sync_lock:
            if self._synced >= wanted:
                return
            with self._lock:
                reached = self._written
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                raise self._error(error) from error
            self._synced = reached

    def _error(self, error: OSError) -> JournalError:
        return JournalError(
            f"the journal {self._path} cannot be written: {error.strerror}",
            hint="the run is cut off; --resume goes on with it once there is room",
        )

    def close(self) -> None:
        """Sync and end it."""
        self.sync()
        os.close(self._descriptor)


def refuse_if_running(path: Path) -> None:
    """Raises JournalError while the run that writes a journal lasts, and as `read_standing`."""
    descriptor = _opened(path)
    if descriptor is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalError(
            f"the run that writes {path} still lasts", hint="wait for it, or end it"
        ) from error
    finally:
        os.close(descriptor)
