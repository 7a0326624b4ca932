"""The leader keeps the streams of durable messages as the state wants them, and where it wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from sappers.decisions.hub import plan_moves, votes_settled
from sappers.decisions.streams import plan_streams
from sappers.errors import HubError, SappersError
from sappers.model.durable import KeepStream
from sappers.model.hub import HubReading
from sappers.model.member import Member
from sappers.model.observation import RaftRole
from sappers.ports import Clock, DurableStreams, HubClient, HubServers, ReplicatedLog
from sappers.reasons import Reasons

_LOOK_SECONDS = 1.0  # what has changed in the state
_CHECK_SECONDS = 60.0  # what has changed in the hub
_RETRY_SECONDS = 5.0
_BARRIER_SECONDS = 5.0

log = structlog.get_logger(__name__)


class StreamKeeper:
    """Acts on the plans of `decisions.streams` and `decisions.hub`, while this member leads.

    Attributes:
        reading: Where durable messages are; None while it does not lead, or nobody says.
        trouble: Why a workload has no stream, or not as it should be; the empty name is for all.
    """

    def __init__(
        self,
        streams: DurableStreams,
        servers: HubServers,
        members_of_hub: Callable[[], Sequence[Member]],
        hub: HubClient,
        clock: Clock,
        log_now: Callable[[], ReplicatedLog],
    ) -> None:
        self._streams = streams
        self._servers = servers
        self._members_of_hub = members_of_hub
        self.reading: HubReading | None = None
        self._hub = hub
        self._clock = clock
        self._log_now = log_now
        self._gone_since: Mapping[str, float] = {}
        self._settled: object = None
        self._due = 0.0
        self._troubles = Reasons()
        self.trouble: Mapping[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            replicated = self._log_now()
            status, state = replicated.status(), replicated.state()
            if status.role is not RaftRole.LEADER or not state.cluster_id:
                self._gone_since, self._settled, self.reading, self.trouble = {}, None, None, {}
                continue
            now = self._clock.monotonic()
            wanted = (status.term, state.hub_servers, frozenset(state.workloads))
            if not self._hub.connected or (wanted == self._settled and now < self._due):
                continue
            self.reading = None  # a server that was empty may get a part of a stream that is made
            try:
                not_kept = await self._keep(replicated)
                failures = {**await self._move(replicated), **not_kept}
            except SappersError as error:
                failures = {"": error}
            self._say(failures)
            settled = votes_settled(state, self.reading or HubReading())
            pause = _CHECK_SECONDS if settled and not failures else _RETRY_SECONDS
            self._due, self._settled = now + pause, wanted

    async def _move(self, replicated: ReplicatedLog) -> Mapping[str, SappersError]:
        """Have streams leave servers that are to go, and those forgotten that are gone."""
        servers = self._members_of_hub()
        if not servers:
            return {}
        reading = await self._servers.read(servers)
        failures: dict[str, SappersError] = {
            name: HubError("most of the servers that have its stream are not there")
            for name in reading.leaderless
        }
        for action in plan_moves(replicated.state(), reading):
            try:
                await self._servers.act(action, servers)
                log.info("hub server moves", action=type(action).__name__, server=action.name)
            except SappersError as error:
                failures[f"server {action.name}"] = error
        self.reading = reading
        return failures

    def _say(self, failures: Mapping[str, SappersError]) -> None:
        """Log what goes wrong, by workload, once; the empty name is for all."""
        for workload, error in failures.items():
            if self._troubles.is_new(workload, error.message):
                log.warning(
                    "stream not kept" if workload else "streams not kept",
                    workload=workload or "all",
                    error=error.message,
                    hint=error.hint,
                )
        self.trouble = {name: _why(name, error) for name, error in failures.items()}
        self._troubles.keep_only(failures)

    async def _keep(self, replicated: ReplicatedLog) -> Mapping[str, SappersError]:
        """Do what is to be done; what could not be, by workload.

        Raises:
            SappersError: It is not known what there is.
        """
        found = await self._streams.streams()
        now = self._clock.monotonic()
        plan = plan_streams(replicated.state(), found, self._gone_since, now)
        self._gone_since = plan.gone_since
        failures: dict[str, SappersError] = {}
        for action in plan.actions:
            if replicated.status().role is not RaftRole.LEADER:
                break  # another keeps them now
            try:
                if isinstance(action, KeepStream):
                    await self._streams.keep(action.workload, action.replicas)
                    log.info("stream kept", workload=action.workload, replicas=action.replicas)
                    continue
                # Somebody else may lead, and may have been told of a new workload of that name.
                await replicated.read_barrier(_BARRIER_SECONDS)
                again = plan_streams(replicated.state(), found, self._gone_since, now)
                if action in again.actions:
                    await self._streams.remove(action.workload)
                    log.info("stream removed", workload=action.workload)
            except SappersError as error:  # one workload's trouble is not another's
                failures[action.workload] = error
        return failures


def _why(workload: str, error: SappersError) -> str:
    """The same words for all workloads that have the same trouble."""
    return error.explained.removeprefix(f"the stream of {workload}: ")
