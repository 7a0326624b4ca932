"""Handovers: guests are told who they are and where the hub is, again whenever that changes.

Credentials are never on disk; a guest that has not confirmed its configuration, was told of other
hub servers, or whose credentials have less than two thirds of their time left or are refused soon,
gets them anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from sappers.errors import GuestMisbehaves, LaunchError
from sappers.launchers import control
from sappers.launchers.guest_folder import GuestFolder, Record
from sappers.model.guest_scope import GuestScope
from sappers.model.member import Member
from sappers.model.refusal import RefusalKind
from sappers.ports import Clock, GuestCredentials, Refusals, Supervisor
from sappers.reasons import Reasons
from sappers.security.tls import AGENT_SERVER_NAME

log = structlog.get_logger(__name__)

_BOOT_SECONDS = 60.0
# A guest's credentials end soon after the agent has ceased to renew them: with its allocation, or
# with the agent, which may be away for the time that is left.
CREDENTIALS_SECONDS = 600.0
_RENEWED_BEFORE = 2 / 3  # of that time is left


class Handovers:
    """What guests are told, and the conversations in which they are; one at a time a guest.

    Args:
        supervisor: Knows which guests still run.
        hub: The members that run the hub now.
        ca_pem: Certificate of the cluster's authority; empty where the hub has no TLS (tests).
        credentials: Mints what guests show to the hub.
        scope_of: What an allocation's guest may say and hear; None once it should end.
        links_of: Ports of this host's loopback that lead to what a guest is linked to.
        hub_term: Term of the leader who chose the hub's members.
        clock: For when credentials end.
        refusals: Counts guests that misbehave.
        credentials_seconds: How long a guest's credentials last without the agent.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        hub: Callable[[], Sequence[Member]],
        ca_pem: str,
        credentials: GuestCredentials,
        scope_of: Callable[[str], GuestScope | None],
        links_of: Callable[[str], Mapping[str, int]],
        hub_term: Callable[[], int],
        clock: Clock,
        refusals: Refusals,
        credentials_seconds: float,
    ) -> None:
        self._supervisor = supervisor
        self._hub = hub
        self._ca_pem = ca_pem
        self._credentials = credentials
        self._scope_of = scope_of
        self._links_of = links_of
        self._hub_term = hub_term
        self._clock = clock
        self._refusals = refusals
        self._credentials_seconds = credentials_seconds
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._failures = Reasons()

    def servers(self) -> tuple[str, ...]:
        """Where the hub is now, as guests are told it."""
        return tuple(sorted(map(_place_of, self._hub())))

    def keep_informed(self, folder: GuestFolder, record: Record) -> None:
        """Begin a handover when the guest has not confirmed what holds now, or not for long."""
        if folder.path.name in self._under_way:
            return
        knows = record.told is not None and record.told == (self.servers() or record.told)
        left = record.credentials_until - self._clock.now()
        renewed_before = self._credentials_seconds * _RENEWED_BEFORE
        made_at = record.credentials_until - self._credentials_seconds
        holds = made_at >= self._credentials.stale_before()
        if knows and holds and renewed_before < left <= self._credentials_seconds:
            return
        if self.is_wanted(record.allocation_id):
            self.begin(folder)

    def begin(self, folder: GuestFolder, ended: Callable[[], None] = lambda: None) -> None:
        """Tell a guest in the background; `ended` is called when that is over, however it went."""
        allocation_id = folder.path.name

        def done(task: asyncio.Task[None]) -> None:
            ended()
            if self._under_way.get(allocation_id) is task:
                del self._under_way[allocation_id]
            if task.cancelled():
                return
            if (error := task.exception()) is None:
                self._failures.forget(allocation_id)
            elif self._failures.is_new(allocation_id, str(error)):
                log.warning("guest not configured", allocation=allocation_id, reason=str(error))

        task = asyncio.create_task(self._configure(folder), name=f"configure {allocation_id}")
        self._under_way[allocation_id] = task
        task.add_done_callback(done)

    async def end(self, allocation_id: str) -> None:
        """Break off what a guest is being told."""
        if handover := self._under_way.pop(allocation_id, None):
            handover.cancel()
            await asyncio.wait([handover])
        self._failures.forget(allocation_id)

    def is_wanted(self, allocation_id: str) -> bool:
        """Whether a leader says that there should be such a guest; else none can be told."""
        return self._scope_of(allocation_id) is not None

    def has_links(self, allocation_id: str) -> bool:
        """Whether the guest may connect to other services."""
        scope = self._scope_of(allocation_id)
        return scope is not None and bool(scope.links)

    def message(self, record: Record, servers: tuple[str, ...]) -> tuple[dict[str, Any], Record]:
        """What to tell a guest now, and its record once it has confirmed that.

        Raises:
            LaunchError: Its allocation is over.
        """
        scope = self._scope_of(record.allocation_id)
        if scope is None:
            raise LaunchError(
                f"allocation {record.allocation_id} is over, or no leader says that it is not"
            )
        now = self._clock.now()
        until = now + self._credentials_seconds
        message = control.configuration(
            scope.allocation_id,
            scope.workload,
            servers,
            self._ca_pem,
            AGENT_SERVER_NAME,
            self._credentials.mint(scope, until),
            record.health_interval_seconds,
            now,
            self._links_of(record.allocation_id),
            self._hub_term(),
            {_place_of(member): member.id for member in self._hub()},
        )
        confirmed = msgspec.structs.replace(record, told=servers, credentials_until=until)
        return message, confirmed

    @contextlib.contextmanager
    def counting(self, allocation_id: str) -> Iterator[None]:
        """A conversation with a guest's sidecar; that it misbehaves in it is counted."""
        try:
            yield
        except GuestMisbehaves:
            self._refusals.count(RefusalKind.CONTROL, allocation_id)
            raise

    async def _configure(self, folder: GuestFolder) -> None:
        """Tell a guest who it is and where the hub is; ends when it confirms or ends.

        Raises:
            LaunchError: It has not answered by the deadline.
        """
        record = folder.record()
        if record is None:
            return
        servers = self.servers() or record.told or ()
        confirmed = record

        def message() -> dict[str, Any]:
            nonlocal confirmed
            words, confirmed = self.message(record, servers)
            return words

        handover = asyncio.create_task(
            control.configure(folder, message, _BOOT_SECONDS if record.told is None else 0.0)
        )
        try:
            while not handover.done() and await self._runs(folder.unit):
                await asyncio.wait([handover], timeout=1.0)
        finally:
            if not handover.done():
                handover.cancel()
        if handover.done() and not handover.cancelled():
            with self.counting(record.allocation_id):
                handover.result()
            folder.write(confirmed)
            say = log.debug if record.told == servers else log.info
            say("guest configured", allocation=record.allocation_id, hub=servers)

    async def _runs(self, unit: str) -> bool:
        status = await self._supervisor.status(unit)
        return status is not None and status.running


def _place_of(server: Member) -> str:
    return f"{server.address}:{server.ports.hub}"
