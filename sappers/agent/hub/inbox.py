"""The health inbox: the last push of each guest, with the time it came in.

Invariant: only what a guest says of the machine that runs now counts. A push of a boot that is
over, one that was said before, and one of a guest that has ended are refused and counted. One that
comes late, as it went over a link that broke while the next ones took another, is only refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping

import msgspec

from sappers.agent.hub.guest_words import read_words
from sappers.model import subjects
from sappers.model.observation import GuestProcess, HealthPush
from sappers.model.refusal import RefusalKind
from sappers.ports import Clock, Refusals

REASON_LENGTH_MAX = 200
BOOT_ID_LENGTH_MAX = 64
PUSH_BYTES_MAX = 4096
BOOTS_REMEMBERED = 8
GAPS_REMEMBERED = 8
LATE_MAX = 120  # pushes that may come late for one gap
REFUSED_AT_ONCE_MAX = 1000  # of a guest's own word
# A supervisor may say a little differently each time when a process began.
_SAME_START_SECONDS = 1.0


class _Push(msgspec.Struct, frozen=True):
    """A push as the sidecar sends it; `refused`: calls of its application, in this boot."""

    healthy: bool
    reason: str = ""
    boot_id: str = ""
    sequence: int = 0
    refused: int = 0


class _Story:
    """What is known of one guest's process: its boots, and the last number of the newest."""

    def __init__(self, started_at: float | None = None) -> None:
        self.started_at = started_at
        self.boot_id: str | None = None
        self.sequence = -1
        self.refused = 0
        self.over: deque[str] = deque(maxlen=BOOTS_REMEMBERED)
        self.gaps: deque[range] = deque(maxlen=GAPS_REMEMBERED)  # numbers that did not come yet

    def is_late(self, push: _Push) -> bool:
        """Whether it is one that did not come when it was due; each may be so once."""
        if push.boot_id != self.boot_id:
            return False
        for place, gap in enumerate(self.gaps):
            if push.sequence in gap:  # those of one link come in order
                self.gaps[place] = range(push.sequence + 1, gap.stop)
                return True
        return False

    def accepts(self, push: _Push) -> bool:
        """Whether the push is new; then it is the last one."""
        if push.boot_id != self.boot_id:
            if push.boot_id in self.over:
                return False
            if self.boot_id is not None:
                self.over.append(self.boot_id)
            self.boot_id, self.sequence, self.refused = push.boot_id, -1, 0
            self.gaps.clear()
        if push.sequence <= self.sequence:
            return False
        if 0 <= self.sequence < push.sequence - 1:
            first = max(self.sequence + 1, push.sequence - LATE_MAX)
            self.gaps.append(range(first, push.sequence))
        self.sequence = push.sequence
        return True

    def newly_refused(self, push: _Push) -> int:
        """How many calls the sidecar has refused its application since the last push."""
        more, self.refused = push.refused - self.refused, push.refused
        return min(max(0, more), REFUSED_AT_ONCE_MAX)


class HealthInbox:
    """Keeps the last push of each guest; implements `ports.HealthInbox`.

    What a guest says is taken as that guest's word only: the hub lets each publish below its own
    subject alone.

    Attributes:
        accepted: How many pushes were taken since the agent started.
    """

    def __init__(self, clock: Clock, refusals: Refusals) -> None:
        self._clock = clock
        self._refusals = refusals
        self.accepted = 0
        self._last: dict[str, HealthPush] = {}
        self._stories: dict[str, _Story] = {}
        self._ended: frozenset[str] = frozenset()

    def last(self) -> Mapping[str, HealthPush]:
        """By allocation id."""
        return dict(self._last)

    async def receive(self, subject: str, payload: bytes) -> bool:
        """Take one message of a guest's health subject; whether it says something new."""
        allocation_id = subjects.allocation_of(subject)
        push = read_words(payload, _Push, PUSH_BYTES_MAX, allocation_id, self._refusals)
        if push is None:
            return False
        story = self._stories.setdefault(allocation_id, _Story())
        if story.is_late(push):
            return False
        if (
            allocation_id in self._ended
            or len(push.boot_id) > BOOT_ID_LENGTH_MAX
            or not story.accepts(push)
        ):
            self._refusals.count(RefusalKind.FORGED, allocation_id)
            return False
        if refused := story.newly_refused(push):
            self._refusals.count(RefusalKind.SOCKET, allocation_id, refused)
        return self._keep(allocation_id, push)

    def _keep(self, allocation_id: str, push: _Push) -> bool:
        self.accepted += 1
        now = self._clock.monotonic()
        before = self._last.get(allocation_id)
        healthy_at = now if push.healthy else None
        if not push.healthy and before and before.boot_id == push.boot_id:
            healthy_at = before.healthy_at
        self._last[allocation_id] = HealthPush(
            allocation_id=allocation_id,
            received_at=now,
            healthy=push.healthy,
            reason=push.reason[:REASON_LENGTH_MAX],
            boot_id=push.boot_id,
            healthy_at=healthy_at,
        )
        return before is None or (before.healthy, before.boot_id) != (push.healthy, push.boot_id)

    def note_processes(
        self, guests: Mapping[str, GuestProcess], under_way: Collection[str]
    ) -> None:
        """Who runs now. Another process begins another story; one that has ended says no more.

        Args:
            guests: As observed.
            under_way: Allocations that are being launched or stopped; of those nothing is known.
        """
        self._ended = frozenset(
            allocation_id
            for allocation_id, guest in guests.items()
            if not guest.running and allocation_id not in under_way
        )
        for allocation_id, guest in guests.items():
            story = self._stories.get(allocation_id)
            if story is None or guest.started_at is None or not guest.running:
                continue
            if story.started_at is None:
                story.started_at = guest.started_at
            elif abs(story.started_at - guest.started_at) > _SAME_START_SECONDS:
                self._stories[allocation_id] = _Story(guest.started_at)

    def keep_only(self, allocation_ids: Collection[str]) -> None:
        """Forget guests that are not on this host any more."""
        for table in (self._last, self._stories):
            for allocation_id in table.keys() - set(allocation_ids):
                del table[allocation_id]
