"""Hears what the guests of this host say on the hub, each no more often than is good for the rest.

Invariant: what one guest sends costs the others nothing. So each has a subscription and a short
queue of its own, and one that talks too much is not heard for a while: the hub then drops what it
says, where that costs least.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from sappers.agent.bucket import Bucket
from sappers.model import subjects
from sappers.model.cluster_state import ClusterState
from sappers.model.refusal import RefusalKind
from sappers.ports import Clock, HubClient, Refusals, Unsubscribe

MESSAGES_PER_SECOND = 10.0
MESSAGES_AT_ONCE = 40
# So many beyond the rate are refused one by one before the guest is not heard at all.
PATIENCE = 40
WAITING_MAX = 128
# Well below the deadline of a push: one that talks too much, but is well, stays healthy.
DEAF_SECONDS = 2.0

log = structlog.get_logger(__name__)

Hear = Callable[[str, bytes], Awaitable[None]]


class _Guest:
    """One guest that is listened to."""

    def __init__(self, subjects: frozenset[str]) -> None:
        self.subjects = subjects
        self.bucket = Bucket(MESSAGES_PER_SECOND, MESSAGES_AT_ONCE)
        self.refused = 0
        self.deaf_until: float | None = None
        self.leave: list[Unsubscribe] = []


class GuestEar:
    """Subscribes to guests, one by one; calls `hear(subject, payload)` for what it lets pass."""

    def __init__(self, *, clock: Clock, hub: HubClient, refusals: Refusals, hear: Hear) -> None:
        self._clock = clock
        self._hub = hub
        self._refusals = refusals
        self._hear = hear
        self._guests: dict[str, _Guest] = {}

    async def attend(self, wanted: Mapping[str, Collection[str]]) -> None:
        """Listen to just these subjects from now on, by allocation id; call it again and again."""
        for allocation_id in self._guests.keys() - wanted.keys():
            guest = self._guests.pop(allocation_id)
            await self._leave(guest)
        for allocation_id, named in wanted.items():
            known = self._guests.get(allocation_id)
            if known is not None and known.subjects == frozenset(named):
                await self._hear_again(allocation_id, known)
                continue
            if known is not None:
                await self._leave(known)
            self._guests[allocation_id] = guest = _Guest(frozenset(named))
            await self._listen(allocation_id, guest)

    async def _hear_again(self, allocation_id: str, guest: _Guest) -> None:
        if guest.deaf_until is not None and self._clock.monotonic() >= guest.deaf_until:
            guest.deaf_until = None
            guest.refused = 0
            await self._listen(allocation_id, guest)

    async def _listen(self, allocation_id: str, guest: _Guest) -> None:
        async def arrived(subject: str, payload: bytes) -> None:
            await self._arrived(allocation_id, guest, subject, payload)

        def dropped() -> None:
            self._refusals.count(RefusalKind.RATE, allocation_id)

        for subject in sorted(guest.subjects):
            leave = await self._hub.subscribe(
                subject, arrived, waiting_max=WAITING_MAX, dropped=dropped
            )
            guest.leave.append(leave)

    @staticmethod
    async def _leave(guest: _Guest) -> None:
        for leave in guest.leave:
            await leave()
        guest.leave.clear()

    async def _arrived(
        self, allocation_id: str, guest: _Guest, subject: str, payload: bytes
    ) -> None:
        if guest.deaf_until is not None:
            self._refusals.count(RefusalKind.RATE, allocation_id)
            return
        if guest.bucket.take(self._clock.monotonic()):
            guest.refused = 0
            await self._hear(subject, payload)
            return
        self._refusals.count(RefusalKind.RATE, allocation_id)
        guest.refused += 1
        if guest.refused >= PATIENCE:
            guest.deaf_until = self._clock.monotonic() + DEAF_SECONDS
            log.warning("guest talks too much", allocation=allocation_id, deaf=DEAF_SECONDS)
            await self._leave(guest)


def guests_to_hear(state: ClusterState, member_id: str) -> dict[str, tuple[str, ...]]:
    """What the guests of a member may say to it, by allocation id. Pure."""
    found: dict[str, tuple[str, ...]] = {}
    for allocation in state.allocations_on(member_id):
        if allocation.status.is_terminal:
            continue
        found[allocation.id] = (subjects.guest_health(allocation.id),)
        if allocation.role == "monitor":
            found[allocation.id] += (subjects.guest_alert(allocation.id),)
    return found
