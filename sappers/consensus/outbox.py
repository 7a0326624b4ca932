"""What the raft process is about to tell its agent: committed entries, answers, how it stands.

Invariants:
- An entry is told before any answer and any word about the state that was made after it.
- What waits for an agent that does not read is bounded: the state takes the place of entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec

from sappers.consensus.snapshot import InBackground, encode_beside
from sappers.consensus.wire import (
    Committed,
    Done,
    LoadState,
    Rejected,
    SnapshotTaken,
    Standing,
    StateAge,
    Unknown,
)
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry

_COMMITTED_BYTES = 2**20  # of payload in one message
_ENTRY_BYTES = 200  # that an entry takes beside its payload
_WORDS = (Standing, StateAge)  # of which the newest counts
_FOLLOWED_SECONDS = 0.005  # between messages of entries alone that nobody waits for


class Outbox:
    """Gathers what is to be told and sends it together, as each message wakes the agent.

    Args:
        send: Sends messages in their order.
        state: The state after the entry that was added last.
        in_background: Where that is encoded, when entries were too many to be kept.
        limit_bytes: Of entries that wait while the agent does not read.
    """

    def __init__(
        self,
        send: Callable[..., object],
        state: Callable[[], ClusterState],
        in_background: InBackground,
        limit_bytes: int,
    ) -> None:
        self._send = send
        self._state = state
        self._in_background = in_background
        self._limit_bytes = limit_bytes
        self._loop = asyncio.get_running_loop()
        self._entries: list[Entry] = []
        self._messages: list[msgspec.Struct] = []
        self._bytes = 0
        self._is_held = False  # the agent does not read
        self._lacks_entries = False
        self._is_encoding = False
        self._sent_at = 0.0
        self._due: asyncio.TimerHandle | None = None

    def add_entry(self, entry: Entry) -> None:
        """Tell of a committed entry; the one that follows the last."""
        if self._lacks_entries:
            return
        self._entries.append(entry)
        self._bytes += _ENTRY_BYTES + len(entry.payload)
        self._drop_what_is_too_much()

    def replace_entries(self, encoded: bytes) -> None:
        """What was to be told is in this state, which was taken over from another voter."""
        self._drop_entries()
        if not self._is_held and not self._is_encoding:
            self._load(encoded)

    def add(self, message: msgspec.Struct) -> None:
        """Tell something that is sent at the next `send_due`."""
        if isinstance(message, _WORDS):  # the newest takes the place of the last
            kind = type(message)
            self._messages = [one for one in self._messages if type(one) is not kind]
        self._messages.append(message)

    def send_due(self, *, entries_awaited: bool) -> None:
        """Send what there is; entries alone that nobody waits for may gather for a moment."""
        due = self._sent_at + _FOLLOWED_SECONDS
        if self._messages or entries_awaited or self._loop.time() >= due:
            self.send_all()
        elif self._entries and self._due is None:
            self._due = self._loop.call_at(due, self.send_all)

    def send_all(self) -> None:
        """Send everything now, if the agent reads."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._is_held or self._is_encoding or not (self._entries or self._messages):
            return
        self._sent_at = self._loop.time()
        messages, self._messages = self._messages, []
        self._send(*self._committed(), *messages)

    def send_last(self) -> None:
        """Before the process ends: what it knows of itself reaches its agent, however slow that is.

        Answers whose entries are missing stay untold, and how old the state is that has them; what
        the answers were about is unknown then.
        """
        if self._lacks_entries or self._is_encoding:
            self._entries.clear()
            self._messages = [one for one in self._messages if isinstance(one, Standing)]
        self._is_held = self._is_encoding = False
        self.send_all()

    def hold(self) -> None:
        """The agent does not read what it was sent."""
        self._is_held = True
        self._drop_what_is_too_much()

    def release(self) -> None:
        """It reads again."""
        self._is_held = False
        if self._lacks_entries and not self._is_encoding:
            self._begin_anew()
        self.send_all()

    def _drop_what_is_too_much(self) -> None:
        if self._is_held and self._bytes > self._limit_bytes:
            self._drop_entries()

    def _drop_entries(self) -> None:
        self._lacks_entries = True
        self._entries.clear()
        self._bytes = 0

    def _begin_anew(self) -> None:
        """With the state as it is now; the entries after it wait until that is encoded."""
        state = self._state()
        self._lacks_entries, self._is_encoding = False, True

        def encode() -> None:
            self._loop.call_soon_threadsafe(self._take_encoded, encode_beside(state))

        self._in_background(encode)

    def _take_encoded(self, encoded: bytes) -> None:
        self._is_encoding = False
        if self._is_held:
            self._drop_entries()  # it hangs again: this would only wait, too
        elif self._lacks_entries:
            self._begin_anew()
        else:
            self._load(encoded)

    def _load(self, encoded: bytes) -> None:
        self._lacks_entries = False
        self._send(LoadState(encoded))
        self.send_all()

    def _committed(self) -> Iterator[Committed]:
        self._bytes = 0
        while self._entries:
            size = count = 0
            while count < len(self._entries) and size < _COMMITTED_BYTES:
                size += len(self._entries[count].payload)
                count += 1
            yield Committed(self._entries[:count])
            del self._entries[:count]


class Reply(msgspec.Struct, frozen=True):
    """Carries the outcome of what an agent asked back to it; a `parties.Answer`."""

    request: int
    outbox: Outbox

    def done(self, index: int, term: int, refused: str) -> None:
        """See `parties.Answer`."""
        self.outbox.add(Done(self.request, index, term, refused))

    def rejected(self, reason: str) -> None:
        """See `parties.Answer`."""
        self.outbox.add(Rejected(self.request, reason))

    def unknown(self, reason: str) -> None:
        """See `parties.Answer`."""
        self.outbox.add(Unknown(self.request, reason))

    def of_snapshot(self, told: int | str) -> None:
        """The index that it stands at, or why there is none."""
        if isinstance(told, str):
            self.rejected(told)
        else:
            self.outbox.add(SnapshotTaken(self.request, told))
