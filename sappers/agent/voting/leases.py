"""Leases: how long the exclusive guests of this host may still run, by the quorum's word.

Invariant: a lease counts from before the quorum was asked, by a clock that never stands still
(CLOCK_BOOTTIME), and is granted only to what a state as new as the answer shows as live here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
import structlog

from sappers.agent.voting.barrier import ANSWER_SECONDS
from sappers.decisions.fencing import (
    RENEWALS_PER_LEASE,
    ended_badly,
    renewed_leases,
    surely_ended,
)
from sappers.errors import ApiError, SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member
from sappers.model.observation import RaftRole
from sappers.ports import Launcher, PeerClient, QuorumHeard, ReplicatedLog
from sappers.reasons import Reasons

IDLE_SECONDS = 0.5
RETRY_SECONDS = 0.2
_LOOK_SECONDS = 0.05

log = structlog.get_logger(__name__)

BootClock = Callable[[], float]


def boot_clock() -> float:
    """Seconds since the host booted, those that it slept through included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leased(Protocol):
    """What leases need of the agent's service."""

    @property
    def me(self) -> Member:
        """This member."""

    @property
    def log(self) -> ReplicatedLog:
        """The log as it is now."""

    def leader(self) -> Member | None:
        """Who leads, as far as this member knows."""

    async def hear_quorum(self) -> QuorumHeard:
        """Ask the quorum, as its leader."""


class Leases:
    """Renews the leases of this host's exclusive guests, and knows which others have ended."""

    def __init__(
        self, service: Leased, peers: PeerClient, launcher: Launcher, clock: BootClock
    ) -> None:
        self._service = service
        self._peers = peers
        self._launcher = launcher
        self._clock = clock
        self._until: dict[str, float] = {}
        self._ended_at: dict[str, float] = {}
        self._failures = Reasons()

    def until(self, allocation_id: str) -> float:
        """When the lease of an allocation ends, by the boot clock; 0 where there is none."""
        return self._until.get(allocation_id, 0.0)

    def seconds_left(self) -> Mapping[str, float]:
        """By allocation id; what has no lease lacks."""
        now = self._clock()
        return {one: until - now for one, until in self._until.items() if until > now}

    def surely_ended(self, state: ClusterState) -> frozenset[str]:
        """Exclusive allocations, of any member, that ended badly and whose guests are gone."""
        now, ended = self._clock(), ended_badly(state)
        self._ended_at = {one: self._ended_at.get(one, now) for one in ended}
        return surely_ended(state, self._ended_at, now)

    async def run(self) -> None:
        """Renew for ever; whatever goes wrong, a lease that is not renewed ends."""
        with contextlib.suppress(OSError):  # as good as ended: they are renewed a moment later
            self._until = dict(await self._launcher.leases())  # of guests that run, from before
        while True:
            pause = await self._renew()
            await asyncio.sleep(pause)

    async def _renew(self) -> float:
        """Ask the quorum once if anything here needs it; seconds until the next time."""
        me, asked_at = self._service.me.id, self._clock()
        wanted = renewed_leases(self._service.log.state(), me, asked_at)
        if not wanted:
            self._until.clear()
            return IDLE_SECONDS
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                state = await self._state_at(await self._ask())
            granted = renewed_leases(state, me, asked_at)
            await self._launcher.extend_leases(granted)  # their watchdogs go by what is on disk
        except (SappersError, OSError) as error:
            said = error.message if isinstance(error, SappersError) else str(error)
            reason = said or "no answer in time"
            if self._failures.is_new(me, reason):
                log.warning("leases not renewed", guests=len(wanted), reason=reason)
            return RETRY_SECONDS
        self._failures.forget(me)
        self._until = dict(granted)
        shortest = min((until - asked_at for until in granted.values()), default=IDLE_SECONDS)
        new = granted.keys() - wanted.keys()
        return RETRY_SECONDS if new else shortest / RENEWALS_PER_LEASE

    async def _ask(self) -> QuorumHeard:
        """How far the quorum was, after this was called.

        Raises:
            SappersError: No quorum, no leader, or no answer.
        """
        if self._service.log.status().role is RaftRole.LEADER:
            return await self._service.hear_quorum()
        leader = self._service.leader()
        if leader is None:
            raise ApiError("no leader is known")
        answer = await self._peers.call(leader, "GET", "/v1/quorum", timeout_seconds=ANSWER_SECONDS)
        try:
            return msgspec.json.decode(answer, type=QuorumHeard)
        except UNREADABLE as error:
            raise ApiError(f"{leader.name} answers what cannot be read: {error}") from error

    async def _state_at(self, heard: QuorumHeard) -> ClusterState:
        """This member's state once it is as new as the quorum was."""
        # The log may become another one meanwhile, so no changes of this one are waited for.
        while True:
            state = self._service.log.state()
            if state.is_as_new_as(heard.index, heard.term):
                return state
            await asyncio.sleep(_LOOK_SECONDS)
