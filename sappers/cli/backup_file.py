"""The file of a backup: sealed with a checksum, replaced as a whole, for its owner alone.

Its content is frames, each packed by itself: the backup, then the record of events, page by page.
So neither writing nor reading takes more memory than one of them, however long the record is.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta

from sappers.cli.saved_record import Numbers, SavedRecord
from sappers.consensus.sealed import Sealing, check_sealed
from sappers.durable import written_durably
from sappers.errors import BackupError, LogDamaged
from sappers.model.backup import BACKUP_FORMAT, RESTORED_BYTES_MAX, Backup
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state
from sappers.model.event import Event

PAGE_BYTES = 2**20  # of events together, unpacked; or one that is larger
HEAD_BYTES_MAX = 256 << 20  # of state and manifests, unpacked
_PAGE = 1000  # events
_PAGE_BYTES_MAX = 16 << 20  # of a page that is read
_KIND = "backup"
_LENGTH = struct.Struct(">I")
_ALL_IN_ONE = b"\x78"  # zlib's first byte: an earlier version packed it together
_HINT = "take another copy of the file, or an older backup"
_Page = Annotated[list[Event], Meta(min_length=1)]


def write_backup(
    path: Path, backup: Backup, events: Iterable[Event], page_bytes: int = PAGE_BYTES
) -> tuple[int, Numbers]:
    """Write it, 0600, as a whole or not at all: its size in bytes, and which events it has.

    Args:
        events: Oldest first; taken as they are written.

    Raises:
        OSError: The disk refuses; what stood there stands still.
        BackupError: It is too large to be read again; or what `events` raises.
    """
    head = msgspec.msgpack.encode(backup)
    if len(head) > HEAD_BYTES_MAX or len(backup.taken.state) > RESTORED_BYTES_MAX:
        raise BackupError(
            f"the state has {len(backup.taken.state) >> 20} MiB, {len(head) >> 20} with manifests,"
            " and would not be read again",
            hint=f"a cluster takes back {RESTORED_BYTES_MAX >> 20} MiB at most",
        )
    numbers = Numbers()
    with written_durably(path) as file:
        sealing = Sealing(file, _KIND)
        sealing.write(_frame(head))
        for page in _pages(numbers.counted(events), page_bytes):
            sealing.write(_frame(msgspec.msgpack.encode(page)))
        return sealing.end(), numbers


def _pages(events: Iterable[Event], page_bytes: int) -> Iterator[list[msgspec.Raw]]:
    page: list[msgspec.Raw] = []
    size = 0
    for event in events:
        encoded = msgspec.msgpack.encode(event)
        if page and (len(page) == _PAGE or size + len(encoded) > page_bytes):
            yield page
            page, size = [], 0
        page.append(msgspec.Raw(encoded))
        size += len(encoded)
    if page:
        yield page


def _frame(body: bytes) -> bytes:
    packed = zlib.compress(body, 6)
    return _LENGTH.pack(len(packed)) + packed


class Saved(msgspec.Struct, frozen=True):
    """What is in a file, checked: the checksum, the format, the chain of events."""

    backup: Backup
    state: ClusterState
    record: SavedRecord


@contextmanager
def open_backup(path: Path) -> Iterator[Saved]:
    """A backup; its events can be read within the block.

    Raises:
        BackupError: It is missing, damaged, or of another version.
    """
    with _told_as_backup(path):
        file = path.open("rb")
    with file:
        with _told_as_backup(path):
            saved = _read(file, path)
        yield saved


@contextmanager
def _told_as_backup(path: Path) -> Iterator[None]:
    """What is wrong with the file, in an operator's words."""
    try:
        yield
    except OSError as error:
        hint = "give the file that sappers-deploy backup wrote"
        raise BackupError(f"{path}: {error.strerror}", hint=hint) from error
    except (LogDamaged, zlib.error, struct.error, ValueError) as error:  # msgspec's is one
        text = f"{path} is no backup that can be read: {error}"
        raise BackupError(text, hint=_HINT) from error


def _read(file: BinaryIO, path: Path) -> Saved:
    check_sealed(_KIND, file, path, _HINT)
    offset = file.tell()
    if file.read(1) == _ALL_IN_ONE:
        raise _other_format(path, 1)
    head, offset = _frame_at(file, offset, HEAD_BYTES_MAX)
    backup = msgspec.msgpack.decode(head, type=Backup)
    if backup.format != BACKUP_FORMAT:
        raise _other_format(path, backup.format)
    if len(backup.taken.state) > RESTORED_BYTES_MAX:
        raise BackupError(f"{path} holds a state that is too large", hint=_HINT)
    state = decode_state(backup.taken.state)

    def page_at(offset: int) -> list[Event]:
        with _told_as_backup(path):
            return _page_at(file, offset)[0]

    record = SavedRecord(page_at)
    end = file.seek(0, os.SEEK_END)
    while offset < end:
        page, following = _page_at(file, offset)
        record.add(offset, page)
        offset = following
    if (broken := record.broken(state)) is not None:
        raise BackupError(f"{path}: event {broken.number}: {broken.reason}", hint=_HINT)
    return Saved(backup, state, record)


def _page_at(file: BinaryIO, offset: int) -> tuple[list[Event], int]:
    page, following = _frame_at(file, offset, _PAGE_BYTES_MAX)
    return msgspec.msgpack.decode(page, type=_Page), following


def _frame_at(file: BinaryIO, offset: int, limit_bytes: int) -> tuple[bytes, int]:
    """What a frame has in it, and where the next one begins; no position of the file moves."""
    descriptor = file.fileno()
    (length,) = _LENGTH.unpack(os.pread(descriptor, _LENGTH.size, offset))
    offset += _LENGTH.size
    unpacker = zlib.decompressobj()
    body = unpacker.decompress(os.pread(descriptor, min(length, limit_bytes), offset), limit_bytes)
    if not unpacker.eof:
        raise zlib.error(f"the part at byte {offset} is cut short, or too large")
    return body, offset + length


def _other_format(path: Path, found: int) -> BackupError:
    return BackupError(
        f"{path} has format {found}, this version reads {BACKUP_FORMAT}",
        hint="restore it with the version of sappers-deploy that made it",
    )
