"""A guest's folder on its host.

    STATE_DIR/guests/<allocation>/             0700, ours
        record.json                            exists as long as the guest should be looked after
        lease                                  of an exclusive guest: until when it may run
        serial.log                             what it printed, kept when it is gone
        run/                                   0700, the guest's own user's; QEMU works here

Whatever is in `run/` may have been put there by a QEMU that a guest took over, so files there are
never followed through links, and never trusted to be files.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from sappers.durable import LACKING, write_durably
from sappers.errors import LaunchError
from sappers.launchers import command, watchdog
from sappers.launchers.guest_identity import SERIAL_LOG
from sappers.launchers.verdict import Traces
from sappers.model.known_types import UNREADABLE
from sappers.model.limits import AllocationId
from sappers.ports import OUTPUT_LOG

_EVENTS_INPUT = b'{"execute": "qmp_capabilities"}\n'
_TAIL_BYTES = 16 * 1024
_SERIAL_KEPT_BYTES = 1 << 20
_SERIAL_LIMIT_BYTES = 8 << 20
_LOGS_KEPT = 50
_PEER = struct.Struct("3i")  # pid, user, group


UNIT_PREFIX = "sappers-guest-"
SPARE_PREFIX = f"{UNIT_PREFIX}spare."  # no allocation's id has a dot


def is_allocation_id(text: str) -> bool:
    """Whether it can name a guest's folder, and no other one."""
    try:
        msgspec.convert(text, AllocationId)
    except msgspec.ValidationError:
        return False
    return True


def unit_of(allocation_id: str) -> str:
    """The unit that an allocation's guest runs in, if it was not a spare."""
    return f"{UNIT_PREFIX}{allocation_id}"


class Record(msgspec.Struct, frozen=True):
    """What an agent that restarts must know of a guest; nothing secret.

    Attributes:
        health_interval_seconds: As its image says.
        told: Hub servers that its sidecar has confirmed, or None before its first word.
        credentials_until: When what it shows to the hub ends, in Unix time.
        start: How it was started, and when it booted although clones start faster, why.
        template: Key of the template it was cloned from, or empty.
        unit: What it runs in, of one that was a spare; else it is `unit_of` its allocation.
        began_at: Monotonic seconds when one that was a spare became this guest; its process is
            older. As a unit, it does not outlive the boot.
    """

    allocation_id: str
    health_interval_seconds: float
    told: tuple[str, ...] | None = None
    start: str = ""
    template: str = ""
    credentials_until: float = 0.0
    unit: str = ""
    began_at: float | None = None


class GuestFolder:
    """One guest's files.

    Raises:
        LaunchError: The id is none: its folder could be anywhere, and root makes and clears it.
    """

    def __init__(self, root: Path, allocation_id: str) -> None:
        if not is_allocation_id(allocation_id):
            raise LaunchError(f"{allocation_id!r} is no allocation id")
        self.path = root / allocation_id
        self.run = self.path / "run"

    def prepare(self, record: Record, files: Mapping[str, Path], user_id: int | None) -> None:
        """Make the folder ready for QEMU to start in.

        Args:
            record: What to remember of the guest.
            files: The image's, by the name that QEMU is told.
            user_id: Whom QEMU runs as, or None for us.
        """
        self.clear()
        for folder in (self.path.parent, self.path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.run.mkdir(mode=0o700)  # fails where something of an earlier guest could not be removed
        for name, source in files.items():
            _link(source, self.run / name)
        for name, content in (
            (f"{command.EVENTS}.in", _EVENTS_INPUT),
            (f"{command.EVENTS}.out", b""),
            (SERIAL_LOG, b""),
        ):
            (self.run / name).write_bytes(content)
            (self.run / name).chmod(0o600)
            if user_id is not None:
                os.chown(self.run / name, user_id, user_id)
        if user_id is not None:
            os.chown(self.run, user_id, user_id)
        (self.path / SERIAL_LOG).unlink(missing_ok=True)
        self.write(record)

    def become(self, root: Path, record: Record) -> None:
        """Let a spare's folder be a guest's: from one moment to the next, with its record in it.

        Nothing is synced: after a power cut there is no such guest.

        Raises:
            OSError: It cannot.
        """
        guest = GuestFolder(root, record.allocation_id)
        guest.clear()
        shutil.rmtree(guest.path, ignore_errors=True)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.path / "record.json").write_bytes(msgspec.json.encode(record))
        self.path.rename(guest.path)
        self.path, self.run = guest.path, guest.run

    @property
    def unit(self) -> str:
        """The unit that the guest runs in, as far as is known."""
        record = self.record()
        return (record and record.unit) or unit_of(self.path.name)

    def record(self) -> Record | None:
        """The record, or None when there is none or it is damaged.

        Raises:
            OSError: This machine lacks memory or descriptors: it may be read later.
        """
        try:
            return msgspec.json.decode((self.path / "record.json").read_bytes(), type=Record)
        except (OSError, *UNREADABLE) as error:
            if isinstance(error, OSError) and error.errno in LACKING:
                raise
            return None

    def write(self, record: Record) -> None:
        """Replace the record."""
        write_durably(self.path / "record.json", msgspec.json.encode(record))

    @property
    def lease(self) -> Path:
        """What the watchdog of an exclusive guest reads."""
        return self.path / "lease"

    def write_lease(self, until: float) -> None:
        """Let the guest run until then (CLOCK_BOOTTIME). Of no use after a reboot: not synced."""
        new = self.path / "lease.new"
        new.write_text(watchdog.lease_text(until))
        new.replace(self.lease)

    def traces(self) -> Traces:
        """The ends of what an ended guest left."""
        return Traces(
            events=read_tail(self.run / f"{command.EVENTS}.out", _TAIL_BYTES),
            serial=read_tail(self.run / SERIAL_LOG, _TAIL_BYTES),
            output=read_tail(self.run / OUTPUT_LOG, _TAIL_BYTES),
        )

    def serial_log(self, tail_bytes: int) -> str | None:
        """The end of what the guest printed, or None when there is no log."""
        for path in (self.run / SERIAL_LOG, self.path / SERIAL_LOG):
            if path.exists():
                return read_tail(path, tail_bytes)
        return None

    def clear(self) -> None:
        """Remove everything but the log."""
        log = self.run / SERIAL_LOG
        if log.exists():
            kept = read_tail(log, _SERIAL_KEPT_BYTES).encode()
            with contextlib.suppress(OSError):  # a full disk must not keep the rest from going
                write_durably(self.path / SERIAL_LOG, kept)
        try:
            shutil.rmtree(self.run, ignore_errors=True)
        except RecursionError:  # folders in folders without end, to be kept
            subprocess.run(["rm", "-rf", "--", str(self.run)], check=False)
        self.lease.unlink(missing_ok=True)
        (self.path / "record.json").unlink(missing_ok=True)

    def trim_log(self) -> None:
        """Keep a talkative guest from filling the disk."""
        with contextlib.suppress(OSError), _open(self.run / SERIAL_LOG, os.O_RDWR) as log:
            size = os.fstat(log).st_size
            if size > _SERIAL_LIMIT_BYTES:
                tail = os.pread(log, _SERIAL_KEPT_BYTES, size - _SERIAL_KEPT_BYTES)
                os.ftruncate(log, 0)
                os.pwrite(log, tail, 0)

    async def connect(self, name: str) -> socket.socket:
        """A connection to a socket in `run/`.

        Raises:
            OSError: It does not open, or it is somebody else's than the guest's own user: a link
                may lead to another guest's.
        """
        folder = os.open(self.run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(0)
            # A path of any length would not fit into the kernel's 108 bytes.
            path = f"/proc/self/fd/{folder}/{name}"
            await asyncio.get_running_loop().sock_connect(connection, path)
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            _, user_id, _ = _PEER.unpack(peer)
            if user_id != os.fstat(folder).st_uid:
                raise PermissionError(errno.EPERM, f"user {user_id} listens there", name)
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(folder)
        return connection


def prune_logs(root: Path) -> None:
    """Forget the oldest logs of guests that are gone."""
    left = [path for path in root.iterdir() if not (path / "record.json").exists()]
    left.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in left[_LOGS_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def read_tail(path: Path, tail_bytes: int) -> str:
    """The end of a regular file as text; empty when it is none."""
    try:
        with _open(path, os.O_RDONLY) as file:
            size = os.fstat(file).st_size
            start = max(0, size - max(0, tail_bytes))
            return os.pread(file, size - start, start).decode("utf-8", "replace")
    except OSError:
        return ""


@contextlib.contextmanager
def _open(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        # One of several names: the kernel or initrd, which are the image store's files as well.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(f"{path} is no file of its own")
        yield file
    finally:
        os.close(file)


def _link(source: Path, target: Path) -> None:
    """The blob under another name: it costs nothing, and no pruning can take it away."""
    source.chmod(0o444)
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, target)
        target.chmod(0o444)
