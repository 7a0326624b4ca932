"""What the raft process is about to tell its agent: committed entries, answers, how it stands.

Invariant: an entry is told before any answer and any word about the state that was made after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec

from sappers.consensus.wire import Committed
from sappers.model.commands import Entry

_COMMITTED_BYTES = 2**20  # of payload in one message
_FOLLOWED_SECONDS = 0.005  # between messages of entries alone that nobody waits for


class Outbox:
    """Gathers what is to be told and sends it together, as each message wakes the agent.

    Args:
        send: Sends messages in their order.
    """

    def __init__(self, send: Callable[..., object]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._entries: list[Entry] = []
        self._messages: list[msgspec.Struct] = []
        self._sent_at = 0.0
        self._due: asyncio.TimerHandle | None = None

    def add_entry(self, entry: Entry) -> None:
        """Tell of a committed entry; the one that follows the last."""
        self._entries.append(entry)

    def forget_entries(self) -> None:
        """What was to be told is in a snapshot that is sent instead."""
        self._entries.clear()

    def add(self, message: msgspec.Struct) -> None:
        """Tell something that is sent at the next `send_due`."""
        self._messages.append(message)

    def send_due(self, *, entries_awaited: bool) -> None:
        """Send what there is; entries alone that nobody waits for may gather for a moment."""
        due = self._sent_at + _FOLLOWED_SECONDS
        if self._messages or entries_awaited or self._loop.time() >= due:
            self.send_all()
        elif self._entries and self._due is None:
            self._due = self._loop.call_at(due, self.send_all)

    def send_all(self) -> None:
        """Send everything now."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._entries or self._messages:
            self._sent_at = self._loop.time()
            self._send(*self._committed(), *self._messages)
            self._messages.clear()

    def _committed(self) -> Iterator[Committed]:
        while self._entries:
            size = count = 0
            while count < len(self._entries) and size < _COMMITTED_BYTES:
                size += len(self._entries[count].payload)
                count += 1
            yield Committed(self._entries[:count])
            del self._entries[:count]
