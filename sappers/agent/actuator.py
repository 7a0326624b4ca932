"""The actuator: the only part of the agent that acts on guests and on the hub's server.

Each action runs in a task of its own, one at a time a subject, so a slow boot holds up nothing. An
action that comes again while its subject is busy is dropped: the loop will ask for it once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

import structlog

from sappers.agent.hub.bucket import Bucket
from sappers.decisions.reconcile_member import hub_peer
from sappers.errors import ImageIncomplete, SappersError
from sappers.model.actions import (
    Action,
    LaunchGuest,
    ReportStatus,
    RestartGuest,
    RunHubServer,
    StopGuest,
    StopHubServer,
)
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.commands import Command, ReportAllocation
from sappers.model.hub import BY_SEED
from sappers.model.image import Manifest
from sappers.ports import Clock, HubServer, Launcher
from sappers.reasons import Reasons

log = structlog.get_logger(__name__)

# Each is a connection to the leader: a member with many guests is no crowd.
REPORTS_UNDER_WAY = 8
# What a launch, a restart and a failure need is less; the plan asks again for what is held back.
CHANGES_PER_SECOND, CHANGES_AT_ONCE = 0.5, 10
WORDINGS_PER_SECOND, WORDINGS_AT_ONCE = 0.2, 5


class _Reported:
    """What was said of an allocation last, and how often more may be said."""

    def __init__(self) -> None:
        self.status: AllocationStatus | None = None
        self.changes = Bucket(CHANGES_PER_SECOND, CHANGES_AT_ONCE)
        self.wordings = Bucket(WORDINGS_PER_SECOND, WORDINGS_AT_ONCE)


class Actuator:
    """Executes actions. Failures are kept as observations for the next plan, and logged."""

    def __init__(
        self,
        *,
        clock: Clock,
        launcher: Launcher,
        whole_image: Callable[[str], Awaitable[Manifest]],
        hub_server: HubServer,
        submit: Callable[..., Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._launcher = launcher
        self._whole_image = whole_image
        self._hub_server = hub_server
        self._submit = submit
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._reported: dict[str, _Reported] = {}
        self._failures = Reasons()
        self._reporting = asyncio.Semaphore(REPORTS_UNDER_WAY)
        self.restarts: dict[str, tuple[int, float]] = {}
        self.failed_launches: dict[str, str] = {}
        self.hub_peers: tuple[str, ...] = ()
        self.hub_refuses: tuple[str, ...] = ()
        self.hub_access = BY_SEED
        self.hub_left = False
        self._hub_renewals = 0

    @property
    def under_way(self) -> frozenset[str]:
        """What is being acted on right now."""
        return frozenset(self._busy)

    def execute(self, actions: Iterable[Action]) -> None:
        """Start every action whose subject is idle."""
        planned = tuple(actions)
        # Whatever is asked next of others is another matter.
        self._failures.keep_only(self._busy.keys() | set(map(_subject, planned)))
        for action in planned:
            subject = _subject(action)
            if subject in self._busy:
                continue
            if isinstance(action, ReportStatus) and not self._may_report(action):
                continue
            task = asyncio.create_task(self._run(action), name=f"{type(action).__name__} {subject}")
            self._busy[subject] = task
            task.add_done_callback(partial(self._forget, subject))

    def propose(self, commands: Sequence[Command]) -> None:
        """Have commands committed that no action stands for, together, one such call at a time."""
        subject = "proposal"
        if not commands or subject in self._busy:
            return
        task = asyncio.create_task(self._propose(commands), name=subject)
        self._busy[subject] = task
        task.add_done_callback(partial(self._forget, subject))

    async def _propose(self, commands: Sequence[Command]) -> None:
        try:
            await self._submit(*commands)
        except SappersError as error:
            log.warning("not committed", commands=len(commands), error=error.message)

    async def close(self) -> None:
        """Cancel what is under way; guests themselves go on."""
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._launcher.close()

    def keep_only(self, allocation_ids: set[str]) -> None:
        """Forget allocations that are not of this member any more."""
        for table in (self.restarts, self.failed_launches, self._reported):
            for allocation_id in table.keys() - allocation_ids:
                del table[allocation_id]

    def _may_report(self, action: ReportStatus) -> bool:
        """A guest whose health changes all the time does not fill the log with it."""
        reported = self._reported.setdefault(action.allocation_id, _Reported())
        changes = action.status is not reported.status
        bucket = reported.changes if changes else reported.wordings
        if not bucket.take(self._clock.monotonic()):
            return False
        reported.status = action.status
        return True

    def _forget(self, subject: str, _: asyncio.Task[None]) -> None:
        self._busy.pop(subject, None)

    async def _run(self, action: Action) -> None:
        try:
            await self._act(action)
        except SappersError as error:
            if self._is_news(action, error.message):
                log.warning("action failed", **_named(action), error=error.message, hint=error.hint)
        except Exception as error:
            if self._is_news(action, repr(error)):
                log.exception("action broke", **_named(action))
        else:
            self._failures.forget(_subject(action))

    def _is_news(self, action: Action, reason: str) -> bool:
        """Whether its last attempt did not fail likewise: the plan may ask for it each second."""
        return self._failures.is_new(_subject(action), f"{type(action).__name__}: {reason}")

    async def _act(self, action: Action) -> None:
        match action:
            case LaunchGuest(allocation=allocation):
                log.info("launching guest", allocation=allocation.id)
                await self._launch(allocation)
                launched = allocation.restarts, self._clock.monotonic()
                self.restarts.setdefault(allocation.id, launched)
            case RestartGuest(allocation=allocation, attempt=attempt, reason=reason):
                log.warning(
                    "restarting guest", allocation=allocation.id, attempt=attempt, reason=reason
                )
                await self._restart(allocation, attempt, action.grace_seconds)
            case StopGuest(allocation_id=allocation_id, reason=reason):
                log.info("stopping guest", allocation=allocation_id, reason=reason)
                await asyncio.sleep(action.drain_seconds)
                await self._launcher.stop(allocation_id, action.grace_seconds)
            case ReportStatus():
                report = ReportAllocation(
                    action.allocation_id, action.status, action.reason, action.restarts
                )
                async with self._reporting:
                    await self._submit(report)
            case RunHubServer():
                renewals = self._hub_renewals
                await self._hub_server.run(action)
                self.hub_refuses, self.hub_access = action.refused, action.access
                self.hub_left = False
                if self._hub_renewals == renewals:
                    self.hub_peers = tuple(hub_peer(server) for server in action.servers)
            case StopHubServer(reason=reason):
                log.info("stopping the hub server", reason=reason)
                await self._hub_server.stop()
                self.hub_left = True

    def look_at_the_hub_again(self) -> None:
        """What its server runs with may be old: the next plan has it run once more."""
        self._hub_renewals += 1
        self.hub_peers = ()

    async def _launch(self, allocation: Allocation) -> None:
        """Launch, and remember why it failed, so that the plan can restart or give up.

        An image that turns out not to be whole is no failure: the plan waits for it.
        """
        self.failed_launches.pop(allocation.id, None)
        try:
            manifest = await self._whole_image(allocation.image.digest)
            await self._launcher.launch(allocation, manifest)
        except ImageIncomplete:
            raise
        except SappersError as error:
            self.failed_launches[allocation.id] = error.explained
            raise

    async def _restart(self, allocation: Allocation, attempt: int, grace_seconds: float) -> None:
        before = self.restarts.get(allocation.id)
        self.restarts[allocation.id] = (attempt, self._clock.monotonic())
        await self._launcher.stop(allocation.id, grace_seconds)
        try:
            await self._launch(allocation)
        except ImageIncomplete:
            if before is None:
                del self.restarts[allocation.id]
            else:
                self.restarts[allocation.id] = before
            raise


def _named(action: Action) -> Mapping[str, str]:
    """What it is, in a line of the log."""
    return {"action": type(action).__name__, "subject": _subject(action)}


def _subject(action: Action) -> str:
    """What an action is about; two about the same are never under way together."""
    match action:
        case LaunchGuest(allocation=allocation) | RestartGuest(allocation=allocation):
            return allocation.id
        case StopGuest(allocation_id=allocation_id):
            return allocation_id
        case ReportStatus(allocation_id=allocation_id):
            return f"report {allocation_id}"
        case RunHubServer() | StopHubServer():
            return "hub server"
