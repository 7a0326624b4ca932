"""The leader keeps the streams of durable messages as the state wants them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from sappers.decisions.streams import plan_streams
from sappers.errors import SappersError
from sappers.model.durable import KeepStream
from sappers.model.observation import RaftRole
from sappers.ports import Clock, DurableStreams, HubClient, ReplicatedLog

_LOOK_SECONDS = 1.0  # what has changed in the state
_CHECK_SECONDS = 60.0  # what has changed in the hub
_RETRY_SECONDS = 5.0
_BARRIER_SECONDS = 5.0

log = structlog.get_logger(__name__)


class StreamKeeper:
    """Acts on the plan of `decisions.streams`, while this member leads."""

    def __init__(
        self,
        streams: DurableStreams,
        hub: HubClient,
        clock: Clock,
        log_now: Callable[[], ReplicatedLog],
    ) -> None:
        self._streams = streams
        self._hub = hub
        self._clock = clock
        self._log_now = log_now
        self._gone_since: Mapping[str, float] = {}
        self._settled: object = None
        self._due = 0.0
        self._said: frozenset[tuple[str, str]] = frozenset()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            replicated = self._log_now()
            status, state = replicated.status(), replicated.state()
            if status.role is not RaftRole.LEADER or not state.cluster_id:
                self._gone_since, self._settled = {}, None
                continue
            now = self._clock.monotonic()
            wanted = (status.term, state.hub_servers, frozenset(state.workloads))
            if not self._hub.connected or (wanted == self._settled and now < self._due):
                continue
            try:
                failures = await self._keep(replicated)
            except SappersError as error:
                failures = {"": error}
            self._say(failures)
            pause = _RETRY_SECONDS if failures else _CHECK_SECONDS
            self._due, self._settled = now + pause, wanted

    def _say(self, failures: Mapping[str, SappersError]) -> None:
        """Log what goes wrong, by workload, once; the empty name is for all."""
        for workload, error in failures.items():
            if (workload, error.message) not in self._said:
                log.warning(
                    "stream not kept" if workload else "streams not kept",
                    workload=workload or "all",
                    error=error.message,
                    hint=error.hint,
                )
        self._said = frozenset((name, error.message) for name, error in failures.items())

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
