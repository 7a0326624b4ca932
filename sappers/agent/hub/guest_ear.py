"""Hears what the guests of this host say on the hub, each no more often than is good for the rest.

Invariant: what one guest sends costs the others nothing. So each has a subscription and a short
queue of its own, and one that talks too much is not heard for a while: the hub then drops what it
says, where that costs least.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial

import msgspec
import structlog

from sappers.agent.hub.bucket import Bucket
from sappers.agent.hub.refusals import OTHERS
from sappers.model import subjects
from sappers.model.cluster_state import ClusterState
from sappers.model.refusal import RefusalKind
from sappers.ports import Answer, Clock, HubClient, Refusals, Unsubscribe

WAITING_MAX = 128
# Well below the deadline of a push: one that talks too much, but is well, stays healthy.
DEAF_SECONDS = 2.0

log = structlog.get_logger(__name__)

Hear = Callable[[str, bytes], Awaitable[None]]


class Rate(msgspec.Struct, frozen=True):
    """How much of one guest is taken.

    Attributes:
        per_second: In the long run.
        at_once: After a pause.
        patience: So many beyond are refused one by one before the guest is not heard at all.
    """

    per_second: float
    at_once: int
    patience: int


PUSHES = Rate(10.0, 40, 40)
CALLS = Rate(500.0, 1000, 200)
CALLS_AT_ONCE = 24  # of one guest, under way


class _Guest:
    """One guest that is listened to."""

    def __init__(self, subjects: frozenset[str], rate: Rate) -> None:
        self.subjects = subjects
        self.bucket = Bucket(rate.per_second, rate.at_once)
        self.refused = 0
        self.deaf_until: float | None = None
        self.leave: list[Unsubscribe] = []


class _Listener:
    """Listens to guests one by one; what one may have cost is in `rate`."""

    rate: Rate

    def __init__(self, *, clock: Clock, hub: HubClient, refusals: Refusals) -> None:
        self._clock = clock
        self._hub = hub
        self._refusals = refusals
        self._guests: dict[str, _Guest] = {}

    async def attend(self, wanted: Mapping[str, Collection[str]]) -> None:
        """Listen to just these subjects from now on, by allocation id; call it again and again."""
        for allocation_id in self._guests.keys() - wanted.keys():
            self._leave(self._guests.pop(allocation_id))
        for allocation_id, named in wanted.items():
            known = self._guests.get(allocation_id)
            if known is not None and known.subjects == frozenset(named):
                await self._hear_again(allocation_id, known)
                continue
            if known is not None:
                self._leave(known)
            self._guests[allocation_id] = guest = _Guest(frozenset(named), self.rate)
            await self._listen(allocation_id, guest)

    async def _hear_again(self, allocation_id: str, guest: _Guest) -> None:
        if guest.deaf_until is not None and self._clock.monotonic() >= guest.deaf_until:
            guest.deaf_until = None
            guest.refused = 0
            await self._listen(allocation_id, guest)

    async def _listen(self, allocation_id: str, guest: _Guest) -> None:
        for subject in sorted(guest.subjects):
            guest.leave.append(await self._subscribe(subject, allocation_id, guest))

    async def _subscribe(self, subject: str, allocation_id: str, guest: _Guest) -> Unsubscribe:
        raise NotImplementedError

    @staticmethod
    def _leave(guest: _Guest) -> None:
        for leave in guest.leave:
            leave()
        guest.leave.clear()

    def _admits(self, allocation_id: str, guest: _Guest) -> bool:
        """Whether a message is within the rate."""
        if guest.deaf_until is None and guest.bucket.take(self._clock.monotonic()):
            guest.refused = 0
            return True
        self._refuse(allocation_id, guest)
        return False

    def _refuse(self, allocation_id: str, guest: _Guest) -> None:
        """Count a message that is not taken; a guest that goes on is left for a while."""
        self._refusals.count(RefusalKind.RATE, allocation_id)
        guest.refused += 1
        if guest.deaf_until is None and guest.refused >= self.rate.patience:
            guest.deaf_until = self._clock.monotonic() + DEAF_SECONDS
            log.warning("guest talks too much", allocation=allocation_id, deaf=DEAF_SECONDS)
            self._leave(guest)


class GuestEar(_Listener):
    """Hears what guests push: calls `hear(subject, payload)` for what it lets pass."""

    rate = PUSHES

    def __init__(self, *, clock: Clock, hub: HubClient, refusals: Refusals, hear: Hear) -> None:
        super().__init__(clock=clock, hub=hub, refusals=refusals)
        self._hear = hear

    async def _subscribe(self, subject: str, allocation_id: str, guest: _Guest) -> Unsubscribe:
        async def arrived(subject: str, payload: bytes) -> None:
            if self._admits(allocation_id, guest):
                await self._hear(subject, payload)

        return await self._hub.subscribe(
            subject,
            arrived,
            waiting_max=WAITING_MAX,
            dropped=partial(self._refuse, allocation_id, guest),
        )


class GuestCalls(_Listener):
    """Takes what guests ask of whichever member comes first.

    `busy` is told beyond the rate, beyond `CALLS_AT_ONCE` of a guest, and when all guests together
    ask more than this member can take. The last is no guest's own doing: `others` are counted.
    """

    rate = CALLS

    def __init__(
        self,
        *,
        clock: Clock,
        hub: HubClient,
        refusals: Refusals,
        queue: str,
        answer: Answer,
        busy: bytes,
    ) -> None:
        super().__init__(clock=clock, hub=hub, refusals=refusals)
        self._queue = queue
        self._answer = answer
        self._busy = busy

    async def _subscribe(self, subject: str, allocation_id: str, guest: _Guest) -> Unsubscribe:
        async def asked(subject: str, payload: bytes, reply: str) -> bytes | None:
            if self._admits(allocation_id, guest):
                return await self._answer(subject, payload, reply)
            return told_later(reply)

        def told_later(reply: str) -> bytes | None:
            inbox = f"{subjects.inbox(allocation_id)}.>"
            return self._busy if subjects.matches(inbox, reply) else None

        def busy(reply: str, under_way: int) -> bytes | None:
            if self._admits(allocation_id, guest):
                whose = allocation_id if under_way >= CALLS_AT_ONCE else OTHERS
                self._refusals.count(RefusalKind.RATE, whose)
            return told_later(reply)

        return await self._hub.serve(
            subject,
            self._queue,
            asked,
            at_once=CALLS_AT_ONCE,
            busy=busy,
            waiting_max=WAITING_MAX * 2,
            dropped=partial(self._refuse, allocation_id, guest),
        )


def guests_who_ask(state: ClusterState) -> dict[str, tuple[str, ...]]:
    """What all guests of the cluster may ask of any member, by allocation id. Pure."""
    return {
        allocation.id: (subjects.guest_durable(allocation.id, "*"),)
        for allocation in state.allocations.values()
        if not allocation.status.is_terminal
    }


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
