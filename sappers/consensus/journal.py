"""The journal: a voter's log entries, term and vote on disk.

Invariants:
- What `sync` returned for, and a term and vote once set, survive a power loss.
- Indexes are contiguous; entry 1 is the log's own beginning.
- A tail that was never synced may be cut; anything else that does not match its checksum makes
  the journal refuse to open. Every record says how much of the file was synced when it was
  written: that is how the two are told apart.
- A journal without an entry that was committed and on disk is refused, too: however it was cut.
  Which one that was, by index and term, stands beside it, once a second, and so never ahead of the
  journal.
- What is read at the start is written again before it is relied on: after a failed sync it may be
  in the page cache alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import msgspec
import structlog

from sappers.consensus.disk import LOCAL_DISK, Disk, read_kept
from sappers.consensus.sealed import seal, unseal
from sappers.errors import DAMAGED_HINT, LogDamaged
from sappers.model.entry_place import EntryPlace

LogEntry = tuple[bytes, int, int]  # command with its type byte, index, term: as pysyncobj has it

_log = structlog.get_logger()

_FILE_MAGIC = b"SAPPERS journal1"
_MARK = b"\xf5Jr\x01"  # begins each record, to find the next one after a damaged one
_HEAD = struct.Struct("<4sII")  # mark, length of the body, CRC-32 of the body
_BODY = struct.Struct("<cQQQ")  # kind, index, term, bytes of the file known to be synced
_ALL = 2**64 - 1  # in the place of these bytes: the file came into being as a whole
_APPEND, _CUT, _COMMITTED = b"A", b"T", b"C"
CHANGE = b"\x02"  # pysyncobj's type byte of a membership change: the first of the command
_TERM_KIND = "term"
_BOUND_KIND = "bound"
_BOUND = struct.Struct("<QQ")  # index and term of an entry
_JOINED = "(joined)"  # takes the place of whom a joiner may have voted for in an earlier life


class _TermAndVote(msgspec.Struct, frozen=True):
    term: int = 0
    voted_for: str | None = None


class Journal:
    """A pysyncobj journal (its method names) that keeps what it was given.

    Attributes:
        entry_bytes: Of the commands of all entries that are kept.

    Args:
        first_term: For a new journal: the term up to which this voter has no vote to give.

    Raises:
        LogDamaged: A file is missing, changed or does not fit; says which and what to do.
    """

    def __init__(self, folder: Path, disk: Disk = LOCAL_DISK, first_term: int = 0) -> None:
        self._disk = disk
        self._path = folder / "journal"
        self._term_path = folder / "term"
        self._bound_path = folder / "bound"
        self._entries: list[LogEntry] = []
        self.entry_bytes = 0
        self._changes: list[LogEntry] = []  # those of the entries that change the electorate
        self._commit_index = 1
        self._commit_written = 1
        self._synced_bytes = 0
        self._synced_index = 0
        self._dirty = False
        self.syncs = 0
        self._bound = self._load_bound()  # None without a file
        self._first = _TermAndVote(first_term, _JOINED if first_term else None)
        self._term = self._load_term()
        if not disk.exists(self._path):
            self._begin()
        self._size = self._load()
        self._file = disk.append(self._path)

    # What pysyncobj calls; an `int` or `slice` counts from the first entry that is kept.

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, item: int) -> LogEntry: ...

    @overload
    def __getitem__(self, item: slice) -> list[LogEntry]: ...

    def __getitem__(self, item: int | slice) -> LogEntry | list[LogEntry]:
        return self._entries[item]

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry; durable after the next `sync`."""
        if self._entries and idx != self._entries[-1][1] + 1:
            raise ValueError(f"entry {idx} does not follow {self._entries[-1][1]}")
        self._write(_APPEND, idx, term, command)
        self._append((command, idx, term))

    def _append(self, entry: LogEntry) -> None:
        self._entries.append(entry)
        self.entry_bytes += len(entry[0])
        if entry[0][:1] == CHANGE:
            self._changes.append(entry)

    def changes_after(self, index: int) -> list[LogEntry]:
        """The entries after an index that change the electorate, oldest first."""
        return [change for change in self._changes if change[1] > index]

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        """Drop the entries from a position on: another leader's log is the true one."""
        if entryFrom < len(self._entries):
            self._write(_CUT, self._entries[entryFrom][1], 0)
            self._drop_from(entryFrom)

    def _drop_from(self, position: int) -> None:
        first_dropped = self._entries[position][1]
        self._synced_index = min(self._synced_index, first_dropped - 1)
        self.entry_bytes -= sum(len(command) for command, _, _ in self._entries[position:])
        del self._entries[position:]
        self._changes = [change for change in self._changes if change[1] < first_dropped]

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        """Drop the entries before a position: a durable snapshot covers them."""
        self.reset(self._entries[entryTo:])

    def reset(self, entries: Sequence[LogEntry]) -> None:
        """Replace all entries, as a whole and durably."""
        self._file.close()
        self._entries = list(entries)
        self.entry_bytes = sum(len(command) for command, _, _ in entries)
        self._changes = [entry for entry in entries if entry[0][:1] == CHANGE]
        self._commit_written = min(self._commit_index, self._entries[-1][1])
        records = [_FILE_MAGIC]
        records += [_record(_APPEND, idx, term, _ALL, command) for command, idx, term in entries]
        records.append(_record(_COMMITTED, self._commit_written, 0, _ALL))
        content = b"".join(records)
        self._disk.replace(self._path, content)
        self._file = self._disk.append(self._path)
        self._size = self._synced_bytes = len(content)
        self._synced_index = self._entries[-1][1]
        self._dirty = False

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Store term and vote; durable when this returns."""
        wanted = _TermAndVote(term, votedForNodeId)
        if wanted != self._term:
            self._disk.replace(self._term_path, seal(_TERM_KIND, msgspec.json.encode(wanted)))
            self._term = wanted

    def getCurrentTerm(self) -> int:  # noqa: N802
        """The stored term."""
        return self._term.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        """Whom this voter voted for in the stored term."""
        return self._term.voted_for

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Remember the commit index; written at most once a second, a lower bound after a crash."""
        self._commit_index = raftCommitIndex

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """A lower bound of the commit index."""
        return self._commit_index

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """Write the commit index if it changed; the next sync takes it along."""
        self._note_bound()
        if self._commit_index != self._commit_written:
            self._commit_written = self._commit_index
            self._write(_COMMITTED, self._commit_index, 0)

    def _note_bound(self) -> None:
        """What was committed is cut off by no leader, and what was synced by no power loss."""
        index, noted = min(self._commit_index, self._synced_index), self._bound
        first = self._entries[0][1] if self._entries else index + 1
        if index < first or (noted is not None and index <= noted.index):
            return
        bound = EntryPlace(index, self._entries[index - first][2])
        content = seal(_BOUND_KIND, _BOUND.pack(bound.index, bound.term))
        if noted is None or noted.term == 0:  # no file, or one of an earlier version
            self._disk.replace(self._bound_path, content)
        else:  # in its place, and unsynced: it costs nothing, and an older one is true, too
            self._disk.overwrite(self._bound_path, content)
        self._bound = bound

    def _destroy(self) -> None:
        self.onOneSecondTimer()
        self.sync()
        self._file.close()

    def sync(self) -> bool:
        """Make all that was added durable; whether there was anything.

        Raises:
            OSError: The disk failed: nothing since the last sync may be relied on, so the process
                must end and read the journal anew.
        """
        if not self._dirty:
            return False
        self._file.sync()
        self._synced_bytes = self._size
        self._synced_index = self._entries[-1][1] if self._entries else 0
        self._dirty = False
        self.syncs += 1
        return True

    # Reading and writing

    def _write(self, kind: bytes, index: int, term: int, command: bytes = b"") -> None:
        record = _record(kind, index, term, self._synced_bytes, command)
        self._file.write(record)
        self._size += len(record)
        self._dirty = True

    def _begin(self) -> None:
        there = self._term_path if self._term != self._first else self._bound_path
        if self._term != self._first or self._bound is not None:
            raise LogDamaged(f"{self._path} is missing, {there} is not", hint=DAMAGED_HINT)
        self._disk.replace(self._term_path, seal(_TERM_KIND, msgspec.json.encode(self._term)))
        self._disk.replace(self._path, _FILE_MAGIC)

    def _load_term(self) -> _TermAndVote:
        try:
            sealed = read_kept(self._disk, self._term_path)
        except FileNotFoundError:
            if self._disk.exists(self._path):
                raise LogDamaged(
                    f"{self._term_path} is missing, {self._path} is not", hint=DAMAGED_HINT
                ) from None
            return self._first
        content = unseal(_TERM_KIND, sealed, self._term_path, DAMAGED_HINT)
        # It may be in the page cache only, after a failed write; and a vote that was read is acted
        # on, so it must not be given once more to another.
        self._disk.rewrite(self._term_path, sealed)
        return msgspec.json.decode(content, type=_TermAndVote)

    def _load(self) -> int:
        """Read all records; the file's length after a torn tail was cut off."""
        data = read_kept(self._disk, self._path)
        if data[: len(_FILE_MAGIC)] != _FILE_MAGIC:
            raise LogDamaged(f"{self._path} is no journal of this version", hint=DAMAGED_HINT)
        offset = len(_FILE_MAGIC)
        while offset < len(data):
            body = _body_at(data, offset)
            if body is None:
                break
            self._replay(body, offset)
            offset += _HEAD.size + len(body)
        last = self._entries[-1][1] if self._entries else 1
        self._check_tail(data, offset, last)
        self._disk.rewrite(self._path, data[:offset])
        self._synced_bytes, self._synced_index = offset, last
        self._commit_index = self._commit_written = min(self._commit_index, last)
        return offset

    def _replay(self, body: bytes, offset: int) -> None:
        kind, index, term, _ = _BODY.unpack_from(body)
        first = self._entries[0][1] if self._entries else index
        following = first + len(self._entries)
        if kind == _APPEND and index == following:
            self._append((body[_BODY.size :], index, term))
        elif kind == _CUT and first < index < following:
            self._drop_from(index - first)
        elif kind == _COMMITTED:
            self._commit_index = index
        else:
            raise LogDamaged(
                f"{self._path}: the record at byte {offset} ({kind!r}, index {index}) does not fit"
                f" a log that ends at {following - 1}",
                hint=DAMAGED_HINT,
            )

    def _load_bound(self) -> EntryPlace | None:
        """An entry that was committed and on disk, None where nobody noted one."""
        try:
            sealed = read_kept(self._disk, self._bound_path)
        except FileNotFoundError:
            return None  # of a new voter, or of an earlier version
        try:
            return _bound_in(unseal(_BOUND_KIND, sealed, self._bound_path, DAMAGED_HINT))
        except (LogDamaged, struct.error) as error:
            _log.warning("how long the journal was is not known", reason=str(error))
            return None

    def _check_tail(self, data: bytes, offset: int, last: int) -> None:
        """That nothing is missing but what was never synced."""
        if (bound := self._bound) and (found := self._instead_of(bound, last)):
            noted = f"entry {bound.index}" + (f" of term {bound.term}" if bound.term else "")
            raise LogDamaged(
                f"{self._path}, up to byte {offset} of {len(data)}, {found}, but {noted} was"
                " committed and on disk",
                hint=DAMAGED_HINT,
            )
        if any(data[offset:]):  # more than the room that was made ahead
            self._require_unsynced(data, offset)
            _log.warning("cut a torn tail", file=str(self._path), byte=offset, of=len(data))

    def _instead_of(self, bound: EntryPlace, last: int) -> str:
        """What there is in the place of an entry that was noted; empty where it is there."""
        if last < bound.index:
            return f"ends with entry {last}"
        first = self._entries[0][1] if self._entries else last
        if bound.term and bound.index >= first:  # else a snapshot covers it
            term = self._entries[bound.index - first][2]
            if term != bound.term:  # it was cut before another leader's entries took their place
                return f"has entry {bound.index} of term {term}"
        return ""

    def _require_unsynced(self, data: bytes, offset: int) -> None:
        at = data.find(_MARK, offset + 1)
        while at != -1:
            body = _body_at(data, at)
            if body is not None and _BODY.unpack_from(body)[3] > offset:
                raise LogDamaged(
                    f"{self._path}: the record at byte {offset} of {len(data)} does not match its"
                    " checksum, and it was on disk already",
                    hint=DAMAGED_HINT,
                )
            at = data.find(_MARK, at + 1)


def _record(kind: bytes, index: int, term: int, synced: int, command: bytes = b"") -> bytes:
    body = _BODY.pack(kind, index, term, synced) + command
    return _HEAD.pack(_MARK, len(body), zlib.crc32(body)) + body


def _body_at(data: bytes, offset: int) -> bytes | None:
    """The body of the record at `offset`, or None if there is no whole one."""
    if offset + _HEAD.size > len(data):
        return None
    mark, length, checksum = _HEAD.unpack_from(data, offset)
    body = data[offset + _HEAD.size : offset + _HEAD.size + length]
    if mark != _MARK or length < _BODY.size or len(body) != length:
        return None
    return body if zlib.crc32(body) == checksum else None


def _bound_in(content: bytes) -> EntryPlace:
    """What a bound's file says. An earlier version wrote the index alone.

    Raises:
        struct.error: It has another length.
    """
    return EntryPlace(*_BOUND.unpack(content.ljust(_BOUND.size, b"\0")))
