"""The agent: observe, decide, act, for as long as the host lives.

    adapters -> observations -> decisions -> commands -> replicated log -> state
                                   state -> decisions -> actions -> adapters

Driven by state: events only wake the loop, so a lost event costs latency and never correctness.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sappers.agent.actuator import Actuator
from sappers.agent.background import background
from sappers.agent.gossip_keys import GossipKeyRing
from sappers.agent.hub.durable import DurableCalls
from sappers.agent.hub.hearing import Hearing
from sappers.agent.hub.hub_connection import HubConnection
from sappers.agent.hub.hub_keys import HubKeys
from sappers.agent.hub.hub_watch import HubWatch
from sappers.agent.hub.refusals import Refusals
from sappers.agent.hub.relay import Follower, Publisher
from sappers.agent.hub.streams import StreamKeeper
from sappers.agent.images.spread import Spread
from sappers.agent.leading.leadership import Leadership
from sappers.agent.me import OwnDescription
from sappers.agent.mesh import Mesh
from sappers.agent.notify import notify_systemd
from sappers.agent.observer import Observer
from sappers.agent.outlook import Outlook
from sappers.agent.own_proposals import OwnProposals
from sappers.agent.pulses import Pulses
from sappers.agent.record.event_record import EventRecord
from sappers.agent.registration import Registration
from sappers.agent.routing import Routing
from sappers.agent.service import Service
from sappers.agent.voting.founding import Founding
from sappers.agent.voting.genesis import load_genesis
from sappers.agent.voting.leases import Leases, boot_clock
from sappers.agent.voting.seat import JoinersRecord, OpenFollowingLog, OpenVoterLog, Seat
from sappers.config import AgentSettings, StateFolder
from sappers.decisions.forgetting import forgotten_by_the_log
from sappers.decisions.leaving import may_leave
from sappers.decisions.reconcile_member import reconcile_member
from sappers.model import subjects
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command
from sappers.model.member import Member
from sappers.model.observation import MemberObservation
from sappers.ports import (
    ChunkSource,
    Clock,
    DurableStreams,
    GuestCredentials,
    HubClient,
    HubServer,
    HubServers,
    ImageStore,
    Launcher,
    Membership,
    PeerClient,
    RepairSigner,
    ReplicatedLog,
    SignedMessages,
)

REPORT_SECONDS = 10.0
PAUSE_SECONDS = 0.05
ROUND_SECONDS = 20.0  # of the loop; one that takes longer hangs


class Agent:
    """One member's life.

    Attributes:
        service: What others may ask of it, through the HTTP API.
        outlook: What its own adapters ask.
    """

    def __init__(
        self,
        *,
        settings: AgentSettings,
        folder: StateFolder,
        me: Member,
        clock: Clock,
        membership: Membership,
        gossip_keys: GossipKeyRing,
        hub_client: HubClient,
        messages: SignedMessages,
        hub_keys: HubKeys,
        hub_server: HubServer,
        launcher: Launcher,
        images: ImageStore,
        peers: PeerClient,
        chunks: ChunkSource,
        refusals: Refusals,
        hub_watch: HubWatch,
        registration: Registration,
        repair_signer: RepairSigner,
        credentials: GuestCredentials,
        routing: Routing,
        mesh: Mesh,
        streams: DurableStreams,
        hub_servers: HubServers,
        open_voter_log: OpenVoterLog,
        open_following_log: OpenFollowingLog,
        joiners_record: JoinersRecord,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._me = OwnDescription(me, membership)
        self._clock = clock
        self._membership = membership
        self._gossip_keys = gossip_keys
        self._hub_client = hub_client
        self._hub = HubConnection(hub_client)
        self._hub_keys = hub_keys
        self._peers = peers
        self._hub_watch = hub_watch
        self._registration = registration
        self._routing = routing
        self._mesh = mesh
        self.outlook = Outlook(me.id, settings.image_keys, membership, lambda: self._seat.log)
        self._hearing = Hearing(
            me_id=me.id,
            clock=clock,
            hub=hub_client,
            refusals=refusals,
            calls=DurableCalls(streams, self.outlook.guest_scope, refusals, clock),
            wake=self.wake,
        )
        self._streams = StreamKeeper(
            streams, hub_servers, self.hub_members, hub_client, clock, lambda: self.log
        )
        self._publisher = Publisher(hub_client, messages, clock)
        self._follower = Follower(me.id, peers, membership.members, messages)
        self._seat = Seat(
            me_id=me.id,
            folder=folder,
            follower=self._follower,
            open_voter_log=open_voter_log,
            open_following_log=open_following_log,
            joiners_record=joiners_record,
            wake=self.wake,
            tell=self._me.tell_vote,
        )
        self._spread = Spread(
            me_id=me.id,
            store=images,
            launcher=launcher,
            peers=peers,
            chunks=chunks,
            members=membership.members,
            settings=settings.images,
            clock=clock,
        )
        self._events = EventRecord(
            folder.events,
            settings.events,
            lambda: self.log,
            peers,
            membership.members,
            lambda: me.id,
        )
        self.service = Service(
            self,
            seat=self._seat,
            cluster=settings.cluster,
            membership=membership,
            gossip_keys=gossip_keys,
            launcher=launcher,
            images=self._spread,
            peers=peers,
            hub_client=hub_client,
            refusals=refusals,
            registration=registration,
            routing=routing,
            mesh=mesh,
            inbox=self._hearing.inbox,
            events=self._events,
            repair_signer=repair_signer,
            credentials=credentials,
            stream_trouble=lambda: self._streams.trouble,
            clock=clock,
        )
        self._leases = Leases(self.service, peers, launcher, boot_clock)
        self._proposals = OwnProposals(me.id, lambda: self.log, clock)
        self._leadership = Leadership(
            settings,
            folder.genesis,
            log_now=lambda: self.log,
            proposals=self._proposals,
            clock=clock,
            hub=hub_client,
            signer=repair_signer,
            image_signers=self._spread.signers,
            refusals=refusals,
        )
        self._pulses = Pulses(hub_client, clock, me.id)
        self._actuator = Actuator(
            clock=clock,
            launcher=launcher,
            whole_image=self._spread.ready,
            hub_server=hub_server,
            submit=self._submit,
        )
        self._observer = Observer(
            clock=clock,
            membership=membership,
            launcher=launcher,
            hub_server=hub_server,
            hub_client=hub_client,
            inbox=self._hearing.inbox,
            actuator=self._actuator,
            spread=self._spread,
            pulses=self._pulses,
            leases=self._leases,
            durable=lambda: self._streams.reading,
            access=hub_keys.access,
            me_id=me.id,
        )
        self._wake = asyncio.Event()
        self._hub_running = False
        self._round_began = clock.monotonic()

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join gossip, open the log, listen to the hub.

        Raises:
            MembershipError, LogDamaged: As the rooms raise them; nothing runs then.
        """
        await self._membership.start()
        await self._seat.start()
        await self._hub_client.subscribe(subjects.ENTRIES, self._follower.receive)
        await self._hub_client.subscribe(subjects.HEARTBEAT, self._follower.receive)
        await self._hub_client.subscribe(subjects.REFUSED, self._hub_watch.receive)

    async def run(self, stopping: asyncio.Event) -> None:
        """The loop, until `stopping` is set; then an orderly end that leaves guests alone."""
        async with background(
            self._found,
            lambda: self._wake_on(self._membership.changes()),
            self._spread.run,
            self._registration.run,
            self._routing.run,
            self._mesh.run,
            self._streams.run,
            self._events.run,
            self._leases.run,
            self._follower.read_clocks,
            lambda: self._gossip_keys.run(self.me.id),
        ):
            notify_systemd("READY=1")
            while not stopping.is_set():
                await self._step()
                notify_systemd("WATCHDOG=1")
                await self._sleep(stopping)
        notify_systemd("STOPPING=1")
        await self._actuator.close()
        await self._leadership.close()
        leaves = may_leave(self.log.state(), self.me.id)
        await self._seat.stop()
        await self._hub_client.close()
        await self._membership.stop(leave=leaves)

    @property
    def goes_round(self) -> bool:
        """Whether the loop gets on; where it hangs this member must not lead."""
        return self._clock.monotonic() - self._round_began < ROUND_SECONDS

    async def _step(self) -> None:
        self._round_began = self._clock.monotonic()
        self._wake.clear()
        self._seat.attend()
        observed = await self._observer.observe(self.log)
        self._hub_running = observed.hub.server_running
        await self._exchange(observed)
        await self._leadership.attend(observed)
        state = self.log.state()
        plan = reconcile_member(
            state, observed, self.me.id, self._clock.monotonic(), self._settings.health
        )
        self._actuator.execute(plan)
        self._hearing.inbox.note_processes(observed.guests, self._actuator.under_way)
        keys = self._hub_keys.plan(state, observed.gossip)
        self._actuator.propose((*self._hearing.alerts.plan(state), *keys))
        if observed.caught_up:
            self._membership.forget(forgotten_by_the_log(state, observed.gossip))
            self._registration.follow(state, self.me, plan)
            self._routing.follow(state)
            self._mesh.follow(state, self.me, self.log.status().leader_id)
        await self._publisher.publish_news(self.log, self.me.id)
        await self._follower.ask_voters()
        self._keep_only_what_is_in(state)

    async def _exchange(self, observed: MemberObservation) -> None:
        """Hear and tell what goes over gossip and over the hub."""
        state, gossip = self.log.state(), self._membership.members()
        if self._hub_keys.may_connect(state, gossip):
            await self._hub.follow(state, gossip)
        self._spread.follow(self.log.state(), caught_up=observed.caught_up)
        await self._me.tell_images(self._spread.announced())
        await self._hub_watch.tell()
        await self._pulses.beat(observed.guests, observed.pushes)
        leader_known = observed.raft.leader_id is not None
        await self._pulses.attend(votes=self.me.has_vote, leader_known=leader_known)
        await self._hearing.attend(self.log.state())

    def _keep_only_what_is_in(self, state: ClusterState) -> None:
        mine = {allocation.id for allocation in state.allocations_on(self.me.id)}
        self._hearing.keep_only(mine)
        self._actuator.keep_only(mine)
        self._leadership.keep_only_what_is_in(state)
        self._pulses.keep_only(set(state.members))

    async def _sleep(self, stopping: asyncio.Event) -> None:
        """Until something changed, but not less than a breath and not more than a loop."""
        await asyncio.sleep(PAUSE_SECONDS)
        if stopping.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.loop_seconds):
                await self._wake.wait()

    async def _wake_on(self, changes: AsyncIterator[None]) -> None:
        async for _ in changes:
            self._wake.set()

    def certificate_renewed(self) -> None:
        """The hub's server is to show the new one, too."""
        self._hub_keys.renew()
        self._actuator.look_at_the_hub_again()
        self.wake()

    def wake(self) -> None:
        """Let the loop go round now."""
        self._wake.set()

    # -- the log -------------------------------------------------------------------------------

    async def _found(self) -> None:
        """Found the cluster, or go on with that; never where this member had part in one before."""
        known = (self._folder.former_genesis, self._folder.no_vote)
        if self._seat.trouble or any(path.exists() for path in known):
            return
        founding = Founding(
            self.service, self._settings, self._membership, self._peers, self._folder.invited
        )
        await founding.run(lambda: load_genesis(self._folder.genesis))

    async def _submit(self, *commands: Command) -> None:
        await self.service.propose(self._proposals.proposal(*commands), REPORT_SECONDS)

    @property
    def me(self) -> Member:
        """This member."""
        return self._me.member

    @property
    def log(self) -> ReplicatedLog:
        """The log as it is now; another object once this member becomes a voter."""
        assert self._seat.log is not None, "start() opens the log"
        return self._seat.log

    @property
    def has_log(self) -> bool:
        """Whether `start` has opened the log."""
        return self._seat.log is not None

    def hub_members(self) -> tuple[Member, ...]:
        """The members that run the hub, as last seen; guests are told these."""
        return self._hub.servers

    def lease_of(self, allocation_id: str) -> float:
        """When the lease of an exclusive allocation ends (CLOCK_BOOTTIME); 0 where it has none."""
        return self._leases.until(allocation_id)

    @property
    def hub_server_runs(self) -> bool:
        """Whether this member's own nats-server lived at the last look."""
        return self._hub_running
