"""The disk as consensus uses it: few operations, so that a simulation can stand in for it.

What `replace` and `rewrite` returned for, and what was appended before a `sync` that returned,
survives a power loss. Every operation raises OSError as the file system does. Where a sync failed,
the kernel takes what it could not write for written: it can be read again, and the next sync of the
same bytes succeeds, but they are not on the disk. Whoever relies on what it reads writes it anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol

from sappers.durable import LACKING
from sappers.errors import DAMAGED_HINT, LogDamaged

_ROOM_BYTES = 256 * 1024


class AppendFile(Protocol):
    """A file that only grows. Unless it was closed, zeros may follow what was written last."""

    def write(self, data: bytes) -> None:
        """Append; perhaps in memory alone."""

    def sync(self) -> None:
        """Make all that was appended durable."""

    def close(self) -> None:
        """Close; what is not durable is written, but may not be on disk."""


class Disk(Protocol):
    """Where journal, term and vote, snapshot are kept."""

    def make_folder(self, folder: Path) -> None:
        """Have the folder, readable by its owner alone."""

    def exists(self, path: Path) -> bool:
        """Whether there is such a file."""

    def read(self, path: Path) -> bytes:
        """All of a file."""

    def open(self, path: Path) -> BinaryIO:
        """A file to read from, as it is now, whatever takes its place meanwhile."""

    def append(self, path: Path) -> AppendFile:
        """A file to append to."""

    def replace(self, path: Path, data: bytes) -> None:
        """Put `data` in the place of `path`, as a whole or not at all; durable."""

    def rewrite(self, path: Path, data: bytes) -> None:
        """Write, in its place, what was read of a file, without its end perhaps; durable.

        After a power loss meanwhile there may be more of the file again, but no other bytes.
        """

    def overwrite(self, path: Path, data: bytes) -> None:
        """Write other bytes, as many as there are, in a file's place, and sync nothing.

        After a power loss they may be the old ones; or torn, if they are more than a sector's.
        """


def read_kept(disk: Disk, path: Path) -> bytes:
    """All of a file that a voter cannot do without.

    Raises:
        FileNotFoundError: There is none.
        LogDamaged: There is, and it cannot be read.
        OSError: This machine lacks memory or descriptors: it may be read later.
    """
    try:
        return disk.read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in LACKING:
            raise
        raise LogDamaged(f"{path} cannot be read: {error.strerror}", hint=DAMAGED_HINT) from error


class _File:
    """Makes room ahead, with zeros: bytes that take the place of others are synced by one write.

    A file that grows at each sync has its new size and blocks synced, too: a transaction of the
    file system's own journal, and all files on the disk take turns at that.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self._end = self._room_until = self._file.seek(0, os.SEEK_END)
        self._unwritten: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._unwritten.append(data)

    def sync(self) -> None:
        self._flush()
        descriptor = self._file.fileno()
        if self._end > self._room_until:
            self._room_until = self._end + os.pwrite(descriptor, bytes(_ROOM_BYTES), self._end)
        os.fdatasync(descriptor)

    def _flush(self) -> None:
        data = b"".join(self._unwritten)
        self._unwritten.clear()
        while data:
            written = os.pwrite(self._file.fileno(), data, self._end)
            self._end += written
            data = data[written:]

    def close(self) -> None:
        self._flush()
        self._file.truncate(self._end)
        self._file.close()


class LocalDisk:
    """Implements `Disk` with this machine's file system."""

    def make_folder(self, folder: Path) -> None:
        """See Disk."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def exists(self, path: Path) -> bool:
        """See Disk."""
        return path.exists()

    def read(self, path: Path) -> bytes:
        """See Disk."""
        return path.read_bytes()

    def open(self, path: Path) -> BinaryIO:
        """See Disk."""
        return path.open("rb")

    def append(self, path: Path) -> AppendFile:
        """See Disk."""
        return _File(path)

    def replace(self, path: Path, data: bytes) -> None:
        """See Disk."""
        fresh = path.with_name(path.name + ".new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError:  # half of it, left on a full disk, would leave no room for the journal
            fresh.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def rewrite(self, path: Path, data: bytes) -> None:
        """See Disk."""
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)

    def overwrite(self, path: Path, data: bytes) -> None:
        """See Disk."""
        with path.open("r+b") as file:
            file.write(data)


def _sync_folder(folder: Path) -> None:
    """Make created and renamed names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


LOCAL_DISK: Disk = LocalDisk()
