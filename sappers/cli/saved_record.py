"""The record of events in a backup's file: one page of it at a time is in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from sappers.decisions.event_chain import broken_between, broken_end
from sappers.model.cluster_state import ClusterState
from sappers.model.event import BrokenLink, Event


class Numbers:
    """Which events passed by, oldest first.

    Attributes:
        count: How many.
        missing: Ranges that were not among them, from 1 on.
    """

    def __init__(self) -> None:
        self.count = 0
        self.missing: list[tuple[int, int]] = []
        self._last = 0

    def counted(self, events: Iterable[Event]) -> Iterator[Event]:
        """The same events."""
        for event in events:
            if event.number > self._last + 1:
                self.missing.append((self._last + 1, event.number - 1))
            self.count, self._last = self.count + 1, event.number
            yield event


class SavedRecord:
    """Events, oldest first, as pages are read of a file; of several threads at once.

    Args:
        page_at: The events of the page at some byte of the file.
    """

    def __init__(self, page_at: Callable[[int], list[Event]]) -> None:
        self._page_at = page_at
        self._firsts: list[int] = []  # number of the first event of each page
        self._offsets: list[int] = []
        self._newest: Event | None = None
        self._broken: BrokenLink | None = None
        self.numbers = Numbers()

    def add(self, offset: int, page: Sequence[Event]) -> None:
        """Note where the next page is, and how it follows."""
        for event in self.numbers.counted(page):
            if self._newest is not None and self._broken is None:
                self._broken = broken_between(self._newest, event)
            self._newest = event
        self._firsts.append(page[0].number)
        self._offsets.append(offset)

    def broken(self, state: ClusterState) -> BrokenLink | None:
        """Where the events are not the chain that a state's head stands for."""
        return self._broken or broken_end(self._newest, state)

    def __iter__(self) -> Iterator[Event]:
        for offset in self._offsets:
            yield from self._page_at(offset)

    @property
    def proven_from(self) -> int:
        """The event from which on all lead, link by link, to the newest one; 0 without any."""
        missing = self.numbers.missing
        if self._newest is None or self._newest.number == 0:
            return 0
        return missing[-1][1] + 1 if missing else 1

    def before(self, number: int) -> list[Event]:
        """Of the events that are proven those next before a number, a page of them at most."""
        page = bisect_left(self._firsts, number) - 1
        if page < 0 or not self.proven_from:
            return []
        events = self._page_at(self._offsets[page])
        return [event for event in events if self.proven_from <= event.number < number]
