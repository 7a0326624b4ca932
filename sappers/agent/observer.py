"""The observer: one reading of everything that decisions take."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from sappers.agent.actuator import Actuator
from sappers.agent.hub.inbox import HealthInbox
from sappers.agent.images.spread import Spread
from sappers.agent.pulses import Pulses
from sappers.agent.voting.leases import Leases
from sappers.errors import SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.hub import HubAccess, HubReading
from sappers.model.observation import HubObservation, MemberObservation, RaftRole, RaftStatus
from sappers.ports import Clock, HubClient, HubServer, Launcher, Membership, ReplicatedLog
from sappers.reasons import Reasons

log = structlog.get_logger(__name__)


class Observer:
    """Reads the world through the ports; changes nothing."""

    def __init__(
        self,
        *,
        clock: Clock,
        membership: Membership,
        launcher: Launcher,
        hub_server: HubServer,
        hub_client: HubClient,
        inbox: HealthInbox,
        actuator: Actuator,
        spread: Spread,
        pulses: Pulses,
        leases: Leases,
        durable: Callable[[], HubReading | None],
        access: Callable[[ClusterState], HubAccess],
        me_id: str,
    ) -> None:
        self._membership = membership
        self._launcher = launcher
        self._hub_server = hub_server
        self._hub_client = hub_client
        self._inbox = inbox
        self._actuator = actuator
        self._spread = spread
        self._pulses = pulses
        self._leases = leases
        self._durable = durable
        self._access = access
        self._clock = clock
        self._leads_since: float | None = None
        self._me_id = me_id
        self._caught_up = False
        self._failures = Reasons()
        self._started_at = clock.monotonic()

    async def observe(self, replicated: ReplicatedLog) -> MemberObservation:
        """One reading of gossip, log, hub, guests and pushes."""
        status = replicated.status()
        state = replicated.state()
        if state.cluster_id and status.is_up_to_date(state.term):
            self._caught_up = True
        leading_seconds = self._leading_seconds(status)
        running_with = await self._hub_server.running_with()
        busy = self._actuator.under_way  # what ends meanwhile may be missing in the reading
        try:
            guests = dict(await self._launcher.observe())
        except SappersError as error:
            # A reading that failed is no reading: better none of the guests' plans this time
            # than guests that look gone.
            if self._failures.is_new("guests", error.message):
                log.warning("guests cannot be looked at", reason=error.message)
            return MemberObservation(
                gossip=self._membership.members(), raft=status, leading_seconds=leading_seconds
            )
        self._failures.forget("guests")
        return MemberObservation(
            gossip=self._membership.members(),
            raft=status,
            hub=HubObservation(
                server_running=running_with is not None,
                server_peers=self._actuator.hub_peers,
                server_refuses=self._actuator.hub_refuses,
                server_access=self._actuator.hub_access,
                server_left=self._actuator.hub_left,
                access=self._access(state),
                connected=self._hub_client.connected,
                durable=self._durable(),
            ),
            guests=guests,
            pushes=dict(self._inbox.last()),
            restarts=dict(self._actuator.restarts),
            failed_launches=dict(self._actuator.failed_launches),
            images=self._spread.readings(state.allocations_on(self._me_id)),
            leases=dict(self._leases.seconds_left()),
            surely_ended=self._leases.surely_ended(state),
            under_way=busy | self._actuator.under_way,
            caught_up=self._caught_up,
            agent_started_at=self._started_at,
            pulses=dict(self._pulses.readings()),
            leading_seconds=leading_seconds,
        )

    def _leading_seconds(self, status: RaftStatus) -> float:
        if status.role is not RaftRole.LEADER:
            self._leads_since = None
            return 0.0
        now = self._clock.monotonic()
        if self._leads_since is None:
            self._leads_since = now
        return now - self._leads_since
