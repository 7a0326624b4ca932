"""What happened, in files: one event a line, in the order of the chain.

Invariant: a whole line of a file was committed, and is on the disk once `append` has returned. A
line's SHA-256 stands in the next line as `previous`, so nothing in the past can be changed without
all that follows. A file's name is the number of its first event.

A file is bounded, the oldest go first. What does not lead to the cluster's chain (the cluster was
restored from a backup, or somebody changed the end of a file) is set aside, not overwritten.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from sappers.durable import sync_folder
from sappers.model.event import Event, event_in, event_line, line_digest
from sappers.model.policy import EventSettings

SUFFIX, ASIDE = ".jsonl", ".set-aside"
FILE_BYTES_MAX = 4 << 20
_NUMBER_DIGITS = 16
_DAY_SECONDS = 86_400.0
_PRUNE_SECONDS = 3600.0

log = structlog.get_logger(__name__)


class Line(msgspec.Struct, frozen=True):
    """One line of a file: `text` without the newline, and where it is."""

    text: bytes
    path: Path
    row: int

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
        self._settings = settings
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

    def begin_anew(self) -> None:
        """Set aside all that is here: it is not the cluster's chain."""
        with self._writing:
            for path in self.files():
                path.rename(self._folder / f"{path.stem}-{self.head[:8]}{ASIDE}")
            sync_folder(self._folder)
            self.last, self.head = 0, ""

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

    def _prune(self, now: float) -> None:
        """Old files go; `now` is an event's time, so that a clock that jumps takes nothing away."""
        self._pruned_at = now
        files = self.files()
        sizes = {path: path.stat().st_size for path in files}
        too_old = now - self._settings.keep_days * _DAY_SECONDS
        bound = self._settings.keep_mib * (1 << 20)
        for path in files[:-1]:
            if sum(sizes.values()) <= bound and _newest_time(path) >= too_old:
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


def _newest_time(path: Path) -> float:
    """The time of a file's last event; of the file itself where that cannot be read."""
    event = event_in(path.read_bytes()[:-1].rpartition(b"\n")[2])
    return event.time if event else path.stat().st_mtime
