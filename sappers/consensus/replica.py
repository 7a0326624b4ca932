"""A replica: the state at one log index, and the newest entries that led to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec
import structlog

from sappers.consensus.snapshot import load_state
from sappers.consensus.state_machine import Outcome, apply
from sappers.errors import UpgradeNeeded
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry
from sappers.model.event import Event

ENTRIES_KEPT = 10_000
ENTRY_BYTES_KEPT = 32 * 2**20  # of payload
EVENTS_WAITING = 20_000  # for whoever writes them down

_log = structlog.get_logger()


class Replica:
    """Applies committed entries in order; the state never goes back in the log.

    To a lower index it goes for a later term alone: after `raft recover`, which gave entries up.
    Where the log gets a format that this version does not know, it stands still for good.

    Attributes:
        state: An immutable value.
        halted: Why nothing more is applied, or empty.
    """

    def __init__(self, state: ClusterState | None = None) -> None:
        self.state = state or ClusterState(index=1)  # entry 1 is the log's own beginning
        self.halted = ""
        self._newest: deque[Entry] = deque()
        self._newest_bytes = 0
        self._events: deque[Event] = deque(maxlen=EVENTS_WAITING)

    def advance(self, entries: Iterable[Entry]) -> bool:
        """Apply the entries that are new; False when one is missing before some of them."""
        for entry in entries:
            if self.halted:
                return True
            if entry.index > self.state.index + 1:
                return False
            if entry.index == self.state.index + 1:
                head = self.state.event_head
                try:
                    self.state, outcome = apply_safely(self.state, entry)
                except UpgradeNeeded as error:
                    self.halt(error)
                    return True
                self._keep(entry)
                if outcome.events and head and outcome.events[0].previous != head:
                    self._events.clear()  # a backup took effect, with the chain that it has
                self._events.extend(outcome.events)
        return True

    def halt(self, error: UpgradeNeeded) -> None:
        """Apply nothing more."""
        self.halted = error.message
        _log.error("applies no more", after=self.state.index, reason=self.halted, hint=error.hint)

    def load(self, snapshot: bytes) -> None:
        """Take over a newer state as it was encoded, or halt.

        Raises:
            msgspec.DecodeError: As `load_state`.
        """
        try:
            self.replace(load_state(snapshot))
        except UpgradeNeeded as error:
            self.halt(error)

    def _keep(self, entry: Entry) -> None:
        """The newest entries, as many as there is room for."""
        self._newest.append(entry)
        self._newest_bytes += len(entry.payload)
        while len(self._newest) > ENTRIES_KEPT or self._newest_bytes > ENTRY_BYTES_KEPT:
            self._newest_bytes -= len(self._newest.popleft().payload)

    def replace(self, state: ClusterState) -> bool:
        """Take over a newer state; False when it is not newer, or nothing is taken any more."""
        if self.halted or state.progress <= self.state.progress:
            return False
        self.state = state
        self._newest.clear()
        self._newest_bytes = 0
        self._events.clear()
        return True

    def events_after(self, number: int) -> tuple[Event, ...]:
        """Events after a number, oldest first, as far back as they are known.

        Those up to the number are forgotten: whoever asks has them.
        """
        while self._events and self._events[0].number <= number:
            self._events.popleft()
        known = self.state.events
        # After a start, or a snapshot, the state reaches further back than what was applied since.
        if not self._events or (known and known[0].number < self._events[0].number):
            return tuple(event for event in known if event.number > number)
        return tuple(event for event in self._events if event.number > number)

    def entries_after(self, index: int, limit: int) -> Sequence[Entry] | None:
        """The entries that follow `index`, at most `limit`; None when they are not kept."""
        if index >= self.state.index:
            return ()
        if not self._newest or self._newest[0].index > index + 1:
            return None
        start = index + 1 - self._newest[0].index
        return tuple(islice(self._newest, start, start + limit))


def apply_safely(state: ClusterState, entry: Entry) -> tuple[ClusterState, Outcome]:
    """`apply`, whatever is wrong with it.

    Raises:
        UpgradeNeeded: As `apply`.
    """
    try:
        return apply(state, entry)
    except UpgradeNeeded:
        raise
    except Exception as error:
        _log.error("apply raised", index=entry.index, error=repr(error))
        advanced = msgspec.structs.replace(state, index=entry.index, term=entry.term)
        return advanced, Outcome(refused=f"the state machine failed: {error!r}")
