"""The newest events as an immutable sequence that costs little to append to.

A tuple of a thousand would be copied as a whole by each entry that is applied, on every member.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import overload

from sappers.model.event import Event

_CHUNK = 32


class EventTail(Sequence[Event]):
    """Events, oldest first; equal to any tuple or tail of the same ones.

    Its whole chunks are shared with the tails that it came from; only the newest, begun one and
    the list of chunks are copied.
    """

    __slots__ = ("_begun", "_chunks", "_dropped")

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._chunks: tuple[tuple[Event, ...], ...] = ()  # of `_CHUNK` events each
        self._begun: tuple[Event, ...] = ()  # of fewer
        self._dropped = 0  # of the first chunk
        self._take(tuple(events))

    def appended(self, events: Sequence[Event], keep: int) -> EventTail:
        """This with more at its end, of all the newest `keep`."""
        tail = EventTail()
        tail._chunks, tail._begun, tail._dropped = self._chunks, self._begun, self._dropped
        tail._take(tuple(events))
        tail._drop(len(tail) - keep)
        return tail

    def _take(self, events: tuple[Event, ...]) -> None:
        begun = self._begun + events
        while len(begun) >= _CHUNK:
            self._chunks += (begun[:_CHUNK],)
            begun = begun[_CHUNK:]
        self._begun = begun

    def _drop(self, count: int) -> None:
        if count <= 0:
            return
        whole, self._dropped = divmod(self._dropped + count, _CHUNK)
        if whole >= len(self._chunks):  # what stays lies in the begun chunk
            past = (whole - len(self._chunks)) * _CHUNK + self._dropped
            self._chunks, self._begun, self._dropped = (), self._begun[past:], 0
        elif whole:
            self._chunks = self._chunks[whole:]

    def __len__(self) -> int:
        return len(self._chunks) * _CHUNK + len(self._begun) - self._dropped

    def __iter__(self) -> Iterator[Event]:
        return islice(chain(chain.from_iterable(self._chunks), self._begun), self._dropped, None)

    @overload
    def __getitem__(self, item: int) -> Event: ...

    @overload
    def __getitem__(self, item: slice) -> tuple[Event, ...]: ...

    def __getitem__(self, item: int | slice) -> Event | tuple[Event, ...]:
        if isinstance(item, slice):
            return tuple(self)[item]
        place = item + len(self) if item < 0 else item
        if not 0 <= place < len(self):
            raise IndexError(item)
        chunk, within = divmod(place + self._dropped, _CHUNK)
        return self._begun[within] if chunk == len(self._chunks) else self._chunks[chunk][within]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EventTail | tuple):
            return tuple(self) == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))
