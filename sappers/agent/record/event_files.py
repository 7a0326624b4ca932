"""What happened, in files: one event a line, in the order of the chain.

Invariant: a whole line of a file was committed, and is on the disk once `append` has returned. A
line's SHA-256 stands in the next line as `previous`, so nothing in the past can be changed without
all that follows. A file's name is the number of its first event.

A file is bounded, the oldest go first. What a member was not there for is a gap between two files,
until another one's events fill it. What does not lead to the cluster's chain (the cluster was
restored from a backup, or somebody changed the end of a file) is set aside, not overwritten.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from sappers.decisions.event_chain import Gap, gaps_between, leading_to
from sappers.durable import sync_folder, write_durably
from sappers.model.event import Event, event_in, event_line, line_digest
from sappers.model.policy import EventSettings

SUFFIX, ASIDE, BEFORE_RESTORE = ".jsonl", ".set-aside", ".restored"
FILE_BYTES_MAX = 4 << 20
_NUMBER_DIGITS = 16
_LINE_BYTES = 16 * 1024
_DAY_SECONDS = 86_400.0
_PRUNE_SECONDS = 3600.0

log = structlog.get_logger(__name__)


class Line(msgspec.Struct, frozen=True):
    """One line of a file: `text` without the newline, and where it is."""

    text: bytes
    path: Path
    row: int

    @property
    def number(self) -> int:
        """Of its event; 0 where it is none, or of a version without numbers."""
        event = event_in(self.text)
        return event.number if event else 0

    @property
    def place(self) -> str:
        """`FILE line N`."""
        return f"{self.path} line {self.row}"


class EventFiles:
    """A folder of events; one thread at a time appends, any may read.

    Attributes:
        last: Number of the newest event on disk, 0 without one.
        head: Its digest.
    """

    def __init__(self, folder: Path, settings: EventSettings) -> None:
        """Opens the folder; a line that a crash cut short is taken away.

        Raises:
            OSError: The folder cannot be made or read.
        """
        self._folder = folder
        self._keep_seconds = settings.keep_days * _DAY_SECONDS
        self._keep_bytes = settings.keep_mib * (1 << 20)
        self._writing = threading.Lock()
        self._pruned_at = 0.0
        self.last, self.head = 0, ""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if files := self.files():
            self._find_end(files)

    def files(self) -> list[Path]:
        """The files, oldest first."""
        return sorted(self._folder.glob(f"*{SUFFIX}"))

    def set_aside(self) -> list[Path]:
        """Files that do not belong to the cluster's chain."""
        return sorted(self._folder.glob(f"*{ASIDE}"))

    def has(self, event: Event) -> bool:
        """Whether this very event is here."""
        line = next((one for one in self.lines(event.number) if one.number >= event.number), None)
        return line is not None and line.text == event_line(event)

    def lines(self, first: int = 0) -> Iterator[Line]:
        """All lines, oldest first; from the file on that has the event of this number."""
        files = self.files()
        later = [path for path in files if _first_of(path) > first]
        for path in files[max(0, len(files) - len(later) - 1) :]:
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue  # it went meanwhile, being the oldest
            rows = content.split(b"\n")
            for row, text in enumerate(rows[:-1], start=1):
                yield Line(text, path, row)

    def append(self, events: Sequence[Event]) -> None:
        """Write events that follow on `last`; on the disk when this returns.

        One that does not (its number is higher: some were never seen here) begins a file.

        Raises:
            OSError: The disk refuses; `last` says how far it came.
        """
        with self._writing:
            for batch in _batches(events, self.last):
                begun = self._append(batch)
                if begun or abs(batch[-1].time - self._pruned_at) > _PRUNE_SECONDS:
                    self._prune(batch[-1].time)

    def gaps(self) -> list[Gap]:
        """What is missing from the first event on, the newest gap first."""
        runs: list[tuple[Event, Event]] = []
        for path in reversed(self.files()):
            ends = _ends_of(path)
            if ends is None:  # nothing can be said of what lies before; `check` says where it is
                return gaps_between(runs[::-1])[:-1]
            runs.append(ends)
        return gaps_between(runs[::-1])

    def fill(self, events: Sequence[Event]) -> bool:
        """Write of some events those that lie before one that is here; on the disk on return.

        Only those that lead to it, link by link, are taken, and none that is too old to be kept, or
        too much. What was here before them is set aside where it turns out to be another chain.

        Returns:
            Whether something was written.

        Raises:
            OSError: The disk refuses.
        """
        with self._writing:
            numbers = {event.number for event in events}
            gap = next((gap for gap in self.gaps() if gap.last in numbers), None)
            if gap is None:
                return False
            inside = [event for event in events if gap.first <= event.number <= gap.last]
            proven = leading_to(inside, gap.digest)
            content = b"".join(event_line(event) + b"\n" for event in proven)
            if not proven or not self._has_room(len(content), proven[-1].time):
                return False
            if proven[0].number == gap.first and gap.before not in (None, proven[0].previous):
                log.warning("what was written before is another chain", number=gap.first - 1)
                self._set_aside([path for path in self.files() if _first_of(path) < gap.first])
            write_durably(self._path(proven[0].number), content)
            return True

    def _has_room(self, size: int, newest_time: float) -> bool:
        files = self.files()
        kept = sum(path.stat().st_size for path in files)
        is_young = newest_time >= self._kept_since(_newest_time(files[-1]))
        return is_young and kept + size <= self._keep_bytes

    def begin_anew(self, *, restored: bool = False) -> None:
        """Set aside all that is here: it is not the cluster's chain, perhaps since a restore."""
        with self._writing:
            self._set_aside(self.files(), BEFORE_RESTORE if restored else "")
            self.last, self.head = 0, ""

    def _set_aside(self, paths: Sequence[Path], why: str = "") -> None:
        for path in paths:
            path.rename(self._folder / f"{path.stem}-{self.head[:8]}{why}{ASIDE}")
        sync_folder(self._folder)

    def _append(self, batch: Sequence[Event]) -> bool:
        """Whether it began a file."""
        lines = [event_line(event) for event in batch]
        files = self.files()
        fits = files and files[-1].stat().st_size < FILE_BYTES_MAX
        is_new = not (fits and batch[0].number == self.last + 1)
        path = self._path(batch[0].number) if is_new else files[-1]
        _append_durably(path, b"".join(line + b"\n" for line in lines))
        if is_new:
            sync_folder(self._folder)
        self.last, self.head = batch[-1].number, line_digest(lines[-1])
        return is_new

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:0{_NUMBER_DIGITS}}{SUFFIX}"

    def _find_end(self, files: list[Path]) -> None:
        content = files[-1].read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            log.warning("cut a line that was not whole", file=str(files[-1]))
            os.truncate(files[-1], len(whole))
        if not whole:
            files.pop().unlink()
            if files:
                self._find_end(files)
            return
        line = whole[:-1].rpartition(b"\n")[2]
        self.head = line_digest(line)
        event = event_in(line)
        if event is None:
            log.error("the newest event cannot be read", file=str(files[-1]))
            self.begin_anew()
        else:
            self.last = event.number

    def _kept_since(self, event_time: float) -> float:
        """What is older than this goes, by the clock of the newest event's member, and by our own.

        One that jumps, here or there, takes nothing away.
        """
        return min(event_time, time.time()) - self._keep_seconds

    def _prune(self, event_time: float) -> None:
        """Old files go; an event's time says that it is later now."""
        self._pruned_at = event_time
        files = self.files()
        sizes = {path: path.stat().st_size for path in files}
        too_old = self._kept_since(event_time)
        for path in files[:-1]:
            if sum(sizes.values()) <= self._keep_bytes and _newest_time(path) >= too_old:
                break
            path.unlink()
            del sizes[path]
        for path in self.set_aside():
            if _newest_time(path) < too_old:
                path.unlink()


def _append_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    size, left = os.fstat(descriptor).st_size, memoryview(content)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)  # half a line must not be the next one's beginning
        raise
    finally:
        os.close(descriptor)


def _batches(events: Sequence[Event], last: int) -> Iterator[Sequence[Event]]:
    """Runs of events without a gap; what is there already is left out."""
    run: list[Event] = []
    for event in events:
        if event.number <= last:
            continue
        if run and event.number != run[-1].number + 1:
            yield run
            run = []
        run.append(event)
    if run:
        yield run


def _first_of(path: Path) -> int:
    return int(path.stem) if path.stem.isdecimal() else 0


def _ends_of(path: Path) -> tuple[Event, Event] | None:
    """A file's first and last event; None where one of them cannot be read."""
    with path.open("rb") as file:
        first = event_in(file.readline().rstrip(b"\n"))
    last = _newest_of(path)
    return (first, last) if first and last else None


def _newest_of(path: Path) -> Event | None:
    """A file's last event; None where it cannot be read."""
    with path.open("rb") as file:
        for tail in (_LINE_BYTES, FILE_BYTES_MAX):  # few events are long
            file.seek(max(0, path.stat().st_size - tail))
            _, newline, line = file.read().removesuffix(b"\n").rpartition(b"\n")
            if newline:
                break
    return event_in(line)


def _newest_time(path: Path) -> float:
    """The time of a file's last event; of the file itself where that cannot be read."""
    event = _newest_of(path)
    return event.time if event else path.stat().st_mtime
