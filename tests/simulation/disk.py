"""A disk in memory: it forgets what was not synced, fills up, and fails, when told.

It fails as Linux has it: what a sync could not write is said once, and taken for written from then
on. It can be read, the next sync of it succeeds, and a power loss brings back what the disk has.
"""

from __future__ import annotations

import errno
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_ROOM_BYTES = 64


class PowerLost(BaseException):
    """Ends whatever was just about to use the disk; nothing catches it."""


class _Stored:
    """A file.

    Attributes:
        data: What is read: the page cache.
        on_disk: What a power loss leaves of it.
        dirty_from: From here on the next sync writes it.
        overwritten: It was written over in its place, and not synced since.
    """

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.on_disk = bytearray(data)
        self.dirty_from = len(data)
        self.grows = False
        self.overwritten = False

    def write_out(self, until: int) -> None:
        """What is dirty up to there reaches the disk; the rest counts as written, too."""
        begin = self.dirty_from
        if until > begin:
            hole = begin - len(self.on_disk)  # of a sync that failed
            self.on_disk += bytes(max(0, hole))
            self.on_disk[begin:until] = self.data[begin:until]
        self.dirty_from = len(self.data)


class _AppendFile:
    def __init__(self, disk: SimulatedDisk, stored: _Stored) -> None:
        self._disk = disk
        self._stored = stored

    def write(self, data: bytes) -> None:
        self._stored.data += data

    def sync(self) -> None:
        self._disk.sync(self._stored)

    def close(self) -> None:
        pass


class SimulatedDisk:
    """Implements `consensus.disk.Disk`.

    Attributes:
        is_full: Nothing more can be written.
        failing: The chance that a write or a sync fails.
        dies_in: After so many more uses the host loses its power, before anything is durable.
        at_death: What happens then.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.is_full = False
        self.failing = 0.0
        self.dies_in: int | None = None
        self.at_death: Callable[[], None] = lambda: None
        self._files: dict[str, _Stored] = {}
        self._before: dict[str, _Stored | None] = {}

    def check_health(self) -> None:
        """Raises OSError where a write does not reach the disk."""
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in <= 0:
                self.dies_in = None
                self.at_death()
                raise PowerLost
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.failing and self.chance.random() < self.failing:
            raise OSError(errno.EIO, "Input/output error")

    def make_folder(self, folder: Path) -> None:
        pass

    def exists(self, path: Path) -> bool:
        return str(path) in self._files

    def read(self, path: Path) -> bytes:
        return bytes(self._stored(path).data)

    def open(self, path: Path) -> BinaryIO:
        return io.BytesIO(self.read(path))

    def append(self, path: Path) -> _AppendFile:
        self._stored(path).grows = True
        return _AppendFile(self, self._stored(path))

    def replace(self, path: Path, data: bytes) -> None:
        self.check_health()
        name = str(path)
        before = self._files.get(name)
        self._files[name] = _Stored(data)
        try:
            self.check_health()
        except OSError:
            # Renamed already, but the folder is not on the disk: a power loss brings back the old.
            self._before.setdefault(name, before)
            raise
        self._before.pop(name, None)

    def rename(self, path: Path, new: Path) -> None:
        """Durably: after a power loss it has one of the two names."""
        self.check_health()
        self._files[str(new)] = self._files.pop(str(path))

    def remove(self, path: Path) -> None:
        self._files.pop(str(path), None)
        self._before.pop(str(path), None)

    def rewrite(self, path: Path, data: bytes) -> None:
        stored = self._stored(path)
        assert stored.data[: len(data)] == data, "only what was read is written again"
        stored.dirty_from = self.dirty_again(stored)
        del stored.data[len(data) :]
        self.sync(stored)
        del stored.on_disk[len(data) :]
        stored.overwritten = False
        self._before.pop(str(path), None)

    def dirty_again(self, stored: _Stored) -> int:
        """All of a file that is written again is."""
        return 0

    def overwrite(self, path: Path, data: bytes) -> None:
        stored = self._stored(path)
        assert len(data) == len(stored.data), "a file that grows has more to sync"
        stored.data[:] = data
        stored.overwritten = True

    def sync(self, stored: _Stored) -> None:
        """Write what is dirty."""
        try:
            self.check_health()
        except OSError:
            unsynced = len(stored.data) - stored.dirty_from
            written = self.chance.randint(0, unsynced) if unsynced > 0 else 0
            stored.write_out(stored.dirty_from + written)
            raise
        stored.write_out(len(stored.data))

    def names(self, prefix: str) -> list[str]:
        """Files whose names begin so."""
        return sorted(name for name in self._files if name.startswith(prefix))

    def lose_power(self) -> None:
        """Of what was not synced only some beginning is there, and its end may be torn.

        Zeros follow what was appended: the room that the real one makes ahead.
        """
        for name, before in self._before.items():
            if before is None:
                del self._files[name]
            else:
                self._files[name] = before
        self._before.clear()
        for stored in self._files.values():
            unsynced, before = len(stored.data) - stored.dirty_from, len(stored.on_disk)
            if unsynced > 0:
                kept = self.chance.choice((0, 0, self.chance.randint(0, unsynced)))
                stored.write_out(stored.dirty_from + kept)
                if len(stored.on_disk) > before and self.chance.random() < 0.3:
                    stored.on_disk[-1] ^= 0x55
            if stored.overwritten and self.chance.random() < 0.5:
                stored.on_disk[:] = stored.data
            if stored.grows:
                stored.on_disk += bytes(_ROOM_BYTES)
            stored.overwritten = False
            stored.data = bytearray(stored.on_disk)
            stored.dirty_from = len(stored.data)

    def _stored(self, path: Path) -> _Stored:
        try:
            return self._files[str(path)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path)) from None
