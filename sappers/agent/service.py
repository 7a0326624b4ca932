"""What others may ask of this member, through its HTTP API: readings, proposals, logs, images."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from sappers.agent.gossip_keys import GossipKeyRing
from sappers.agent.hub.health_call import health_of
from sappers.agent.hub.inbox import HealthInbox
from sappers.agent.hub.refusals import Refusals
from sappers.agent.logs import set_log_level
from sappers.agent.mesh import Mesh
from sappers.agent.proposing import Proposer
from sappers.agent.record.event_record import EventRecord
from sappers.agent.registration import Registration
from sappers.agent.routing import Routing
from sappers.agent.view import build_view
from sappers.agent.voting.barrier import SharedBarrier
from sappers.agent.voting.seat import Seat
from sappers.errors import LaunchError
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Proposal
from sappers.model.gossip_keys import GossipKeys
from sappers.model.member import Member
from sappers.model.repair import RepairKey, RepairLogin
from sappers.model.view import ClusterView, Genesis, MemberHealth
from sappers.ports import (
    Applied,
    Clock,
    GuestCredentials,
    HubClient,
    Launcher,
    LogLevel,
    MemberImages,
    Membership,
    PeerClient,
    QuorumHeard,
    RepairSigner,
    ReplicatedLog,
)

HEALTH_CALL_SECONDS = 1.0
LOG_CALL_SECONDS = 10.0


log = structlog.get_logger(__name__)


class ServedAgent(Protocol):
    """What the service needs of the agent itself."""

    @property
    def me(self) -> Member:
        """This member."""

    @property
    def log(self) -> ReplicatedLog:
        """The log as it is now."""

    @property
    def hub_server_runs(self) -> bool:
        """Whether this member's own nats-server lives."""


class Service:
    """Implements `ports.MemberService`."""

    def __init__(
        self,
        agent: ServedAgent,
        *,
        seat: Seat,
        cluster: str,
        membership: Membership,
        gossip_keys: GossipKeyRing,
        launcher: Launcher,
        images: MemberImages,
        peers: PeerClient,
        hub_client: HubClient,
        refusals: Refusals,
        registration: Registration,
        inbox: HealthInbox,
        routing: Routing,
        events: EventRecord,
        repair_signer: RepairSigner,
        credentials: GuestCredentials,
        mesh: Mesh,
        stream_trouble: Callable[[], Mapping[str, str]],
        clock: Clock,
    ) -> None:
        self._agent = agent
        self._seat = seat
        self._cluster = cluster
        self._membership = membership
        self._gossip_keys = gossip_keys
        self._launcher = launcher
        self._images = images
        self._peers = peers
        self._hub_client = hub_client
        self._refusals = refusals
        self._registration = registration
        self._inbox = inbox
        self._routing = routing
        self._events = events
        self._repair_signer = repair_signer
        self._credentials = credentials
        self._mesh = mesh
        self._stream_trouble = stream_trouble
        self._clock = clock
        self._proposer = Proposer(self, peers)
        self._barrier = SharedBarrier(lambda: agent.log)

    @property
    def me(self) -> Member:
        """This member."""
        return self._agent.me

    @property
    def log(self) -> ReplicatedLog:
        """The log as it is now; another object once this member becomes a voter."""
        return self._agent.log

    @property
    def events(self) -> EventRecord:
        """What happened, as this member wrote it down."""
        return self._events

    @property
    def images(self) -> MemberImages:
        """The images on this host."""
        return self._images

    def check_repair_access(self, key: RepairKey, logins: Sequence[RepairLogin]) -> None:
        """As the port says."""
        self._repair_signer.check(key, logins)

    def members(self) -> tuple[Member, ...]:
        """What gossip says."""
        return self._membership.members()

    @property
    def hub_connected(self) -> bool:
        """Whether this member's client of the hub is connected."""
        return self._hub_client.connected

    def refused(self) -> Mapping[str, int]:
        """What was refused to guests and strangers since the agent started, by kind."""
        return self._refusals.totals()

    def pushes_heard(self) -> int:
        """Health pushes of guests here that were taken since the agent started."""
        return self._inbox.accepted

    def leader(self) -> Member | None:
        """Who leads, as far as this member knows."""
        leader_id = self.log.status().leader_id
        return next((m for m in self.members() if m.id == leader_id), None)

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        """Propose here if this member leads, else through the leader's API."""
        return await self._proposer.propose(proposal, timeout_seconds)

    async def hear_quorum(self) -> QuorumHeard:
        """Ask the quorum, as its leader; see `ports.MemberService`."""
        return await self._barrier.pass_()

    async def accept_genesis(self, genesis: Genesis) -> None:
        """Become a voter as the founder says; see `ports.MemberService`."""
        await self._seat.accept_genesis(genesis)

    def gossip_keys(self) -> GossipKeys:
        """What gossip is sealed with."""
        return self._gossip_keys.keys

    async def put_gossip_keys(self, keys: GossipKeys) -> None:
        """As the port says."""
        await self._gossip_keys.replace(keys)

    def hub_credentials(self) -> str:
        """As the port says."""
        return self._credentials.operator()

    def set_log_level(self, level: LogLevel) -> None:
        """Log what is of this level or above from now on; a new start forgets it."""
        set_log_level(level)
        log.info("log level changed", level=level)

    async def health(self) -> MemberHealth:
        """This member's short word about itself, from memory."""
        status, state = self.log.status(), self.log.state()
        hub = "-"
        if self.me.id in state.hub_servers:
            hub = "running" if self._agent.hub_server_runs else "down"
        return MemberHealth(
            member_id=self.me.id,
            name=self.me.name,
            version=self.me.version,
            cluster_id=state.cluster_id,
            role=status.role,
            term=status.term,
            leader_id=status.leader_id,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            hub=hub,
            hub_connected=self._hub_client.connected,
            images_whole=self._images.figures().whole,
            image_trouble=self._image_trouble(state),
            refusals=self._refusals.snapshot(),
            consul=self._registration.word,
            consul_trouble=self._registration.trouble,
            snapshot_index=status.snapshot_index,
            stream_trouble=dict(self._stream_trouble()),
            vote_trouble=self._seat.trouble,
            raft_trouble="" if self._seat.trouble else status.down,
            log_trouble=status.halted,
            gateway_trouble=self._routing.trouble,
            mesh_trouble=self._mesh.trouble,
            state_age=self.log.state_age(),
            clock=self._clock.monotonic(),
        )

    def _image_trouble(self, state: ClusterState) -> str:
        """Why the first image that does not come does not, or empty."""
        for _, image in sorted(state.images.items()):
            if why_not := self._images.why_not(image.digest):
                return f"image {image.name}: {why_not}"
        return ""

    async def view(self) -> ClusterView:
        """The cluster for `status`: this member's state, and each living member's own word."""
        gossip = self.members()
        living = [m for m in gossip if m.lives]
        answers = await asyncio.gather(*(self._health_of(member) for member in living))
        return build_view(
            cluster=self._cluster,
            me_id=self.me.id,
            state=self.log.state(),
            age_seconds=self.log.state_age(),
            raft=self.log.status(),
            gossip=gossip,
            healths={health.member_id: health for health in answers if health},
        )

    async def _health_of(self, member: Member) -> MemberHealth | None:
        if member.id == self.me.id:
            return await self.health()
        return await health_of(self._peers, member, HEALTH_CALL_SECONDS)

    async def serial_log(self, allocation_id: str, tail_bytes: int) -> str:
        """The end of what a guest printed, from whichever member has it."""
        allocation = self.log.state().allocations.get(allocation_id)
        if allocation is None:
            raise LaunchError(f"no allocation {allocation_id}", hint="see sappers-deploy ps -a")
        if allocation.member_id == self.me.id:
            return await self._launcher.serial_log(allocation_id, tail_bytes)
        owner = next((m for m in self.members() if m.id == allocation.member_id), None)
        if owner is None:
            raise LaunchError(f"{allocation_id}: its member {allocation.member_id} is gone")
        path = f"/v1/local-log/{allocation_id}?tail_bytes={tail_bytes}"
        answer = await self._peers.call(owner, "GET", path, timeout_seconds=LOG_CALL_SECONDS)
        return answer.decode(errors="replace")
