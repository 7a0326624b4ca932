"""The snapshot of a voter: the state at one log index, in a sealed file.

Invariant: the file is always a whole snapshot, and the newest one this voter has; the journal is
trimmed only after the file is durable.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import structlog

from sappers.consensus.disk import LOCAL_DISK, Disk, read_kept
from sappers.consensus.journal import Journal, LogEntry
from sappers.consensus.sealed import seal, unseal
from sappers.errors import DAMAGED_HINT, LogDamaged
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_known_part, decode_state, encoded_state
from sappers.model.known_types import learn

KIND = "snapshot"
SNAPSHOT_FILE = "snapshot"  # in the raft folder
_CHUNK_BYTES = 256 * 1024
_RETRY_SECONDS = 10.0
_LONG_PIECE_BYTES = 16 * 1024  # of a state; after one the event loop has its turn
_PAUSE_SECONDS = 0.001
_NOT_SERIALIZING, _SERIALIZING, _SUCCESS, _FAILED = range(4)  # pysyncobj's SERIALIZER_STATE

Chunk = tuple[bytes, bool, bool]  # data, whether it is the first, whether it is the (empty) last

_log = structlog.get_logger()


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """What the file holds.

    Attributes:
        last: The newest entry that the state includes.
        previous: The entry before it; the log goes on from these two.
        state: `encode_state` of the state right after `last`.
    """

    last: LogEntry
    previous: LogEntry
    state: bytes

    @property
    def index(self) -> int:
        """The log index that the state stands at."""
        return self.last[1]

    def decoded(self) -> ClusterState:
        """The state itself; of a later format: what of it this version knows."""
        return _without_collecting(decode_known_part, self.state)


def encode_beside(state: ClusterState) -> bytes:
    """`encode_state` in a thread beside the event loop, which waits for no more than a piece."""
    pieces = bytearray()
    for piece in encoded_state(state):
        pieces += piece
        if len(piece) > _LONG_PIECE_BYTES:
            time.sleep(_PAUSE_SECONDS)
    return bytes(pieces)


def load_state(encoded: bytes) -> ClusterState:
    """`decode_state`, five times as fast: many objects at once would wake the collector often.

    Raises:
        msgspec.DecodeError, UpgradeNeeded: As `decode_state`.
    """
    return _without_collecting(decode_state, encoded)


def _without_collecting(decode: Callable[[bytes], ClusterState], encoded: bytes) -> ClusterState:
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        return decode(encoded)
    finally:
        if was_collecting:
            gc.enable()


def read_snapshot(path: Path, disk: Disk = LOCAL_DISK) -> Snapshot | None:
    """The snapshot in a file, None if there is no file.

    Raises:
        LogDamaged: The file is not a whole snapshot.
    """
    try:
        sealed = read_kept(disk, path)
    except FileNotFoundError:
        return None
    return _decode(sealed, path)


def join(journal: Journal, snapshot: Snapshot | None) -> None:
    """Trim the journal to the snapshot that was found beside it.

    Raises:
        LogDamaged: Entries between the two are missing.
    """
    first: int = journal[0][1] if len(journal) else 0
    if snapshot is None and first <= 1:
        return
    if snapshot is None or not 1 <= first <= snapshot.previous[1]:
        covered = f"the snapshot ends at {snapshot.index}" if snapshot else "there is no snapshot"
        begins = f"begins at index {first}" if first else "is empty"
        raise LogDamaged(f"the journal {begins}, but {covered}", hint=DAMAGED_HINT)
    position = snapshot.previous[1] - first
    if list(journal[position : position + 2]) == [snapshot.previous, snapshot.last]:
        if position:
            journal.deleteEntriesTo(position)
        return
    _log.warning("the snapshot is newer than the journal", index=snapshot.index)
    journal.reset((snapshot.previous, snapshot.last))


def _decode(sealed: bytes, path: Path) -> Snapshot:
    content = unseal(KIND, sealed, path, DAMAGED_HINT)
    try:
        return msgspec.msgpack.decode(content, type=learn(Snapshot))
    except msgspec.DecodeError as error:
        raise LogDamaged(f"{path} is no snapshot: {error}", hint=DAMAGED_HINT) from error


class Worker(Protocol):
    """Work that was begun beside the event loop."""

    def is_alive(self) -> bool:
        """Whether it is not done yet."""


InBackground = Callable[[Callable[[], None]], Worker]


def in_thread(work: Callable[[], None]) -> Worker:
    """Begin work in a thread of its own."""
    thread = threading.Thread(target=work, name="snapshot", daemon=True)
    thread.start()
    return thread


class SnapshotStore:
    """Takes the place of pysyncobj's Serializer (its method names).

    A snapshot is taken by keeping a reference to the immutable state; a background thread encodes
    and writes it. Other voters get the file in chunks.

    Attributes:
        index: Log index of the durable snapshot, 0 without one.
        newest_useful: Log index that a received snapshot must exceed; asked when it is complete.
        has_room: Whether the link to a voter takes another chunk now.
    """

    def __init__(
        self,
        path: Path,
        newest_useful: Callable[[], int] = lambda: 0,
        disk: Disk = LOCAL_DISK,
        in_background: InBackground = in_thread,
    ) -> None:
        self.path = path
        self._disk = disk
        self._in_background = in_background
        self.newest_useful = newest_useful
        self.has_room: Callable[[Any], bool] = lambda _: True
        self.loaded = read_snapshot(path, disk)
        if self.loaded is not None:
            # Written by a process that then failed, it may be in the page cache alone, while the
            # journal is about to be trimmed to it.
            disk.rewrite(path, disk.read(path))
        self.index = self.loaded.index if self.loaded else 0
        self._writer: Worker | None = None
        self._error: Exception | None = None
        self._retry_at = 0.0
        self._id = 0
        self._outgoing: dict[Hashable, BinaryIO] = {}
        self._incoming: bytearray | None = None

    @property
    def busy(self) -> bool:
        """Whether a snapshot is being written."""
        return self._writer is not None

    @property
    def trouble(self) -> str:
        """Why the last one that was to be written was not, or empty."""
        return f"{self.path}: {self._error}" if self._error else ""

    def checkSerializing(self) -> tuple[int, int | None]:  # noqa: N802
        """pysyncobj's state of writing, and the index that the journal may be trimmed to."""
        if self._writer is None:
            return _NOT_SERIALIZING, None
        if self._writer.is_alive() or time.monotonic() < self._retry_at:
            return _SERIALIZING, self._id
        self._writer = None
        return (_FAILED if self._error else _SUCCESS), self._id

    def serialize(
        self,
        data: tuple[Mapping[str, Any], LogEntry, LogEntry, object],
        id: int,  # noqa: A002
    ) -> None:
        """Begin to write the state that stands in `data[0]["state"]`."""
        if self._writer is not None:
            return
        own, last, previous, _ = data
        self._id, self._error, self._retry_at = id, None, 0.0
        self._writer = self._in_background(partial(self._write, own["state"], last, previous))

    def _write(self, state: ClusterState, last: LogEntry, previous: LogEntry) -> None:
        try:
            snapshot = Snapshot(last, previous, encode_beside(state))
            self._disk.replace(self.path, seal(KIND, msgspec.msgpack.encode(snapshot)))
            self.index = snapshot.index
        except Exception as error:
            _log.error("snapshot not written", file=str(self.path), error=str(error))
            self._error, self._retry_at = error, time.monotonic() + _RETRY_SECONDS

    def getTransmissionData(self, transmissionID: Hashable) -> Chunk | None:  # noqa: N802, N803
        """The next chunk for a voter; None while it cannot take one."""
        if not self.has_room(transmissionID):
            return None
        file = self._outgoing.get(transmissionID)
        if first := file is None:
            try:
                file = self._outgoing[transmissionID] = self._disk.open(self.path)
            except OSError as error:
                _log.error("snapshot not sent", file=str(self.path), error=str(error))
                return None
        assert file is not None
        data = file.read(_CHUNK_BYTES)
        if not data:
            self.cancelTransmisstion(transmissionID)
        return data, first, not data

    def cancelTransmisstion(self, id: Hashable) -> None:  # noqa: A002, N802
        """Forget how far a voter got."""
        if file := self._outgoing.pop(id, None):
            file.close()

    def setTransmissionData(self, data: Chunk | None) -> bool:  # noqa: N802
        """Take a chunk; whether it completed a newer snapshot, which is then on disk."""
        if data is None:
            return False
        part, is_first, is_last = data
        if is_first:
            self._incoming = bytearray()
        if self._incoming is None:
            return False
        self._incoming += part
        if not is_last:
            return False
        sealed, self._incoming = bytes(self._incoming), None
        return self._install(sealed)

    def _install(self, sealed: bytes) -> bool:
        try:
            snapshot = _decode(sealed, Path("the received snapshot"))
        except LogDamaged as error:
            _log.error("snapshot refused", error=error.message)
            return False
        if self._writer is not None or snapshot.index <= self.newest_useful():
            return False
        self._disk.replace(self.path, sealed)
        self.loaded, self.index = snapshot, snapshot.index
        return True
