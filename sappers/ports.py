"""The interfaces between rooms. Adapters satisfy them; `assembly/` puts them together.

Where an adapter needs something of another room it asks for one of these in its constructor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from sappers.model.allocation import Allocation
from sappers.model.chunks_here import ChunksHere
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry, Proposal
from sappers.model.durable import KeptMessage, StoredMessage, StreamReading
from sappers.model.event import Event, EventCheck, EventFilter, Story
from sappers.model.guest_scope import GuestScope
from sappers.model.hub import HubAction, HubReading
from sappers.model.image import Manifest, SignedManifest
from sappers.model.member import Member
from sappers.model.mesh import IntentionChange, IntentionReading, MeshPlan, ProxyToken
from sappers.model.observation import GuestProcess, HealthPush, RaftStatus
from sappers.model.refusal import RefusalKind
from sappers.model.repair import RepairKey, RepairLogin
from sappers.model.route import Backend, Route
from sappers.model.service import ServiceChange, ServiceReading
from sappers.model.view import ClusterView, Genesis, MemberHealth


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> float:
        """Unix time in seconds; may jump."""

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps."""


class Refusals(Protocol):
    """Counts what guests and strangers tried and were refused (`agent/`)."""

    def count(self, kind: RefusalKind, subject: str, times: int = 1) -> None:
        """Somebody (an allocation id, or an address) was refused something."""


class Membership(Protocol):
    """Gossip: who is there. Owned by `membership/`."""

    async def start(self) -> None:
        """Bind and begin to dial every known peer, for ever.

        Raises:
            MembershipError: The port is taken or the key is wrong.
        """

    async def stop(self, *, leave: bool) -> None:
        """Close; with `leave` the others are told that this was meant."""

    def members(self) -> tuple[Member, ...]:
        """Everyone ever met, this member included, with state; by id."""

    async def publish(self, me: Member) -> None:
        """Tell the others what changed about this member."""

    def changes(self) -> AsyncIterator[None]:
        """Yields whenever `members()` may differ."""


class Applied(msgspec.Struct, frozen=True):
    """A proposal is committed and applied.

    Attributes:
        refused: Why the state machine refused it, or empty when it took effect.
    """

    index: int
    term: int
    refused: str = ""


class QuorumHeard(msgspec.Struct, frozen=True):
    """The quorum has answered its leader.

    Attributes:
        index: Log index that it stood at, after it was asked.
    """

    index: int


class ReplicatedLog(Protocol):
    """The log and the state it leads to. Voters and followers have one each (`consensus/`)."""

    async def start(self) -> None:
        """Begin; returns once the last local state is loaded.

        Raises:
            LogDamaged: A file cannot be trusted; says which and what to do.
        """

    async def stop(self) -> None:
        """End, with nothing acknowledged left unsynced."""

    def state(self) -> ClusterState:
        """This member's replica; an immutable value."""

    def status(self) -> RaftStatus:
        """Role, term, leader and indexes as last heard."""

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        """Commit a proposal; only the leader can.

        Raises:
            ProposalRejected: Definitely not committed (not the leader, queue full, too large).
            OutcomeUnknown: May or may not have been committed; retry with the same request id.
        """

    async def read_barrier(self, timeout_seconds: float) -> int:
        """Return once `state()` is at least as new as this call (linearizable); the index.

        Raises:
            ProposalRejected, OutcomeUnknown: As `propose`.
        """

    def state_age(self) -> float | None:
        """Seconds since `state()` was as new as the cluster's; None where that is not known.

        Of a member that is cut off it grows; what it says of the present may be as old as that.
        """

    async def add_voter(self, member_id: str, address: str, timeout_seconds: float) -> Applied:
        """Give a member a Raft vote; only the leader can, one change at a time.

        When this returns the change is committed and `state().electorate` says so. Only then may
        the member start its raft process, with `consensus.joining.joiners_record`. Adding a voter
        that is one changes nothing.

        Args:
            address: Where its Raft will listen, `ip:port`.

        Raises:
            ProposalRejected: Definitely not done: not the leader, or another change is under way.
            OutcomeUnknown: May or may not be done: see `state().electorate`, or ask again.
        """

    async def remove_voter(self, member_id: str, timeout_seconds: float) -> Applied:
        """Take a member's vote; only the leader can, one change at a time, not its own.

        The one removed is told, when it can be reached: then `status().is_removed` there.

        Raises:
            ProposalRejected: As `add_voter`; also when the others have no quorum that answers.
            OutcomeUnknown: As `add_voter`.
        """

    async def recover_alone(self, timeout_seconds: float) -> Applied:
        """Go on as the only voter, the others being gone for good; what was not committed yet is.

        A voter that has just started listens for 5 s first.

        Raises:
            ProposalRejected: It hears a leader or a majority, or has no vote.
            OutcomeUnknown: See `state().electorate`, or ask again.
        """

    async def transfer_leadership(self, member_id: str, timeout_seconds: float) -> None:
        """Make another voter the leader; returns once it is. Proposals meanwhile are rejected.

        Raises:
            ProposalRejected: Not the leader, no such voter, or it did not catch up in time.
            OutcomeUnknown: It was asked to lead, and who leads is not known.
        """

    def entries_after(self, index: int, limit: int) -> Sequence[Entry] | None:
        """Committed entries that follow `index`, at most `limit`; None when compacted away."""

    def events_after(self, number: int) -> tuple[Event, ...]:
        """Events after a number, oldest first, as far back as this member can tell.

        For the one that writes them down: those up to the number need not be told again.
        """

    async def snapshot(self) -> bytes:
        """The state, encoded for `ClusterState` replicas elsewhere."""

    async def written_snapshot(self) -> bytes:
        """The newest snapshot on disk, where the entries after it are kept here; else `snapshot`.

        Who starts from it fetches those entries: the log after a snapshot is as true as the state.
        """

    async def trigger_snapshot(self) -> int:
        """Compact the log to disk now; the index it covers."""

    def changes(self) -> AsyncIterator[None]:
        """Yields whenever `state()` or `status()` may differ."""


class FollowingLog(ReplicatedLog, Protocol):
    """The log of a member without a vote: fed by the agent, gaps filled by itself."""

    async def begin_at(self, state: ClusterState) -> None:
        """Begin with a state that this member has; of no effect where it is not newer."""

    async def feed(self, entry: Entry) -> None:
        """A committed entry as the hub brought it; repeated and out of order is fine."""

    async def heard(self, index: int, term: int, leader_id: str | None) -> None:
        """How far the cluster is, by a heartbeat or a voter's word; fetches what is missing."""


class HubServer(Protocol):
    """This member's nats-server, when it has one (`hub/`)."""

    async def run(self, servers: Sequence[Member], term: int, refused: Sequence[str] = ()) -> None:
        """Make the server run with just these members; nothing to do if it does already.

        Args:
            servers: Its cluster, this member among them.
            term: Of the leader that decided it; an older one than before is refused.
            refused: Allocations whose guests it cuts off and lets in no more.

        Raises:
            HubError: It does not start; carries the end of its log.
        """

    async def stop(self) -> None:
        """Make it run no more."""

    async def running_with(self) -> tuple[str, ...] | None:
        """Member ids that it runs with, or None when it does not run."""


class HubViolations(Protocol):
    """What this member's nats-server refused to whom (`hub/`)."""

    def new(self) -> Mapping[str, int]:
        """Since the last call, by the public key of the user; at least so many."""


Received = Callable[[str, bytes], Awaitable[None]]
Unsubscribe = Callable[[], None]
# (subject, payload, reply subject) -> what to answer; None for nothing.
Answer = Callable[[str, bytes, str], Awaitable[bytes | None]]
# (reply subject, how many of this subscription are under way) -> what to answer; None for nothing.
Busy = Callable[[str, int], bytes | None]


class HubClient(Protocol):
    """A client of the hub that reconnects for ever (`hub/`)."""

    async def connect(self, servers: Sequence[Member]) -> None:
        """Use just these servers from now on; returns at once, connects in the background."""

    @property
    def connected(self) -> bool:
        """Whether messages flow."""

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send; dropped with a debug log while not connected (state is the truth)."""

    async def subscribe(
        self,
        subject: str,
        received: Received,
        *,
        waiting_max: int = 0,
        dropped: Callable[[], None] | None = None,
    ) -> Unsubscribe:
        """Call `received(subject, payload)` for each message, over reconnects too.

        Args:
            subject: May have wildcards.
            received: One message after the other.
            waiting_max: Messages that may wait for it; 0 is the client's own bound.
            dropped: Called for each message for which there is no room.

        Returns:
            What ends it.
        """

    async def serve(
        self,
        subject: str,
        queue: str,
        answer: Answer,
        *,
        at_once: int = 0,
        busy: Busy | None = None,
        waiting_max: int = 0,
        dropped: Callable[[], None] | None = None,
    ) -> Unsubscribe:
        """Answer requests, over reconnects too; one of those with the same queue gets each.

        Args:
            subject: May have wildcards.
            queue: Of those that serve with the same one, one gets each request.
            answer: Many at a time.
            at_once: How many; 0 is the client's own bound, which holds for all that it serves.
            busy: What answers the requests beyond; they are dropped without it.
            waiting_max: As in `subscribe`.
            dropped: As in `subscribe`.

        Returns:
            What ends it.
        """

    async def close(self) -> None:
        """Flush and end."""


class DurableStreams(Protocol):
    """Durable messages, one stream a workload (`hub/`)."""

    async def streams(self) -> Mapping[str, StreamReading]:
        """Every workload's stream, by workload.

        Raises:
            HubError: The hub does not say, or keeps no streams at all.
        """

    async def keep(self, workload: str, replicas: int) -> None:
        """Make a workload's stream, or make it as it should be.

        Raises:
            HubError: The hub refuses, or does not answer.
        """

    async def remove(self, workload: str) -> None:
        """Remove a workload's stream and all that is in it; nothing where there is none.

        Raises:
            HubError: The hub refuses, or does not answer.
        """

    async def store(
        self, workload: str, name: str, payload: bytes, message_id: str
    ) -> StoredMessage:
        """Keep a message; returns once most of its stream's servers have it on their disks.

        Raises:
            StreamFull: The stream takes no more.
            HubError: The hub does not answer; it may or may not have been kept.
        """

    async def fetch(
        self, workload: str, count: int, wait_seconds: float
    ) -> tuple[KeptMessage, ...]:
        """Messages that wait, at most `count`; none when none came in time.

        Raises:
            HubError: The hub does not answer.
        """

    async def settle(self, workload: str, token: str, *, again: bool) -> None:
        """Have a message forgotten, or delivered again.

        Raises:
            TokenRefused: The token is none of this workload's.
            HubError: The hub does not answer.
        """


class HubServers(Protocol):
    """The hub's servers, as far as durable messages go (`hub/`)."""

    async def read(self, servers: Sequence[Member]) -> HubReading:
        """Where durable messages are.

        Raises:
            HubError: The hub does not say.
        """

    async def act(self, action: HubAction, servers: Sequence[Member]) -> None:
        """Have it done, or begun; what has come of it is in the next reading.

        Raises:
            HubError: The hub refuses, or does not answer.
        """


class GuestCredentials(Protocol):
    """Mints what a guest shows to the hub (`hub/`)."""

    def mint(self, scope: GuestScope, expires_at: float) -> str:
        """A NATS credentials file for what the guest may say and hear, until then (Unix time)."""

    def holder(self, user: str) -> str | None:
        """Whom this member made the credentials of a user (a public key) for, if it did."""


class SignedMessages(Protocol):
    """Proves which member said what the hub brings (`security/`)."""

    def sign(self, subject: str, body: bytes) -> bytes:
        """The message that says a body under a subject."""

    def open(self, subject: str, message: bytes) -> tuple[str, bytes]:
        """The member that said it, and what.

        Raises:
            IdentityError: It is no message, or no member of the cluster signed it for this subject.
        """


class RepairSigner(Protocol):
    """Signs what healers log in to hosts with (`security/`)."""

    def sign(
        self,
        key: RepairKey,
        public_key: str,
        *,
        member_id: str,
        key_id: str,
        now: float,
        until: float,
    ) -> str:
        """An SSH user certificate of a public key, for one member's host, until a Unix time.

        Raises:
            IdentityError: The cluster's key cannot be opened here, what it says of images is not
                signed by it, or the public key is none.
        """

    def check(self, key: RepairKey, logins: Sequence[RepairLogin]) -> None:
        """Whether the cluster's authority has itself said what stands there.

        Raises:
            IdentityError: The key cannot be opened here, or something is not signed by it.
        """


class Launcher(Protocol):
    """Starts and stops guests on one backend (`launchers/`)."""

    async def launch(self, allocation: Allocation, manifest: Manifest) -> None:
        """Start the guest in a unit of its own and hand its sidecar what it must know.

        Raises:
            LaunchError: It does not start; carries the end of its log.
        """

    async def warm(self, manifest: Manifest, digest: str) -> str:
        """Have what lets further guests of an image start quickly; what happened, for a person.

        Raises:
            TemplateError: It cannot be had; says why.
        """

    async def stop(self, allocation_id: str, grace_seconds: float) -> None:
        """Ask the sidecar, then QEMU, then kill; leave no unit, socket or file but the log."""

    async def leases(self) -> Mapping[str, float]:
        """When the leases of exclusive guests end, by allocation id, in CLOCK_BOOTTIME seconds."""

    async def extend_leases(self, until: Mapping[str, float]) -> None:
        """Let exclusive guests that run here run until then; the watchdog beside each reads it."""

    async def observe(self) -> Mapping[str, GuestProcess]:
        """Every guest on this host that is ours, owned or not, by allocation id."""

    async def serial_log(self, allocation_id: str, tail_bytes: int) -> str:
        """The end of what the guest printed.

        Raises:
            LaunchError: No such guest on this host.
        """

    async def close(self) -> None:
        """End what is made in the background; guests go on."""


class ImageStore(Protocol):
    """Images by content on this machine (`images/`); nothing untrusted or damaged comes out.

    All of it may read or write the disk: call it from threads. Whatever takes a digest raises
    `ImageError` where it is none.
    """

    def signed(self, digest: str) -> SignedManifest | None:
        """The signed manifest; None when it is not here, damaged, or signed by nobody trusted."""

    def manifest(self, digest: str) -> Manifest | None:
        """As `signed`: what is signed."""

    def put_signed(self, signed: SignedManifest) -> str:
        """Store a manifest; the image's digest.

        Raises:
            ImageUntrusted: No trusted key signed it.
            ImageError: It makes no sense; the disk is full.
        """

    def missing_chunks(self, digest: str) -> tuple[str, ...]:
        """Chunks of an image that are not here, in the order of first use; nothing is read.

        Raises:
            ImageError: There is no manifest, or (`ImageUntrusted`) nobody trusted signed it.
        """

    def has_chunk(self, chunk: str) -> bool:
        """Whether a chunk is here; one that a crash has torn counts until it is read."""

    def read_chunk(self, chunk: str) -> bytes | None:
        """A chunk as it travels, a zstd frame; None when it is not here or was damaged."""

    def write_chunk(self, chunk: str, frame: bytes) -> None:
        """Store a chunk as somebody sent it.

        Raises:
            ImageError: The frame is not of this chunk; the disk is full.
        """

    def assemble(self, digest: str) -> Manifest:
        """Make every file of an image whole and verified, from its chunks where need be.

        Raises:
            ImageIncomplete: Chunks are missing, or were damaged and are dropped.
            ImageError: There is no manifest, or (`ImageUntrusted`) nobody trusted signed it; the
                disk is full.
        """

    def blob_path(self, digest: str) -> Path:
        """Where a file of an image is once it is assembled; shared: link it, change nothing."""

    def verify(self, digest: str) -> None:
        """Read all that is here of an image again; what is damaged is removed.

        Raises:
            ImageIncomplete: Chunks are missing, or were damaged and are dropped.
            ImageError: As `assemble`; a file was damaged and is removed.
        """

    def prune(self, keep: Collection[str], *, spare_seconds: float = 0.0) -> tuple[str, ...]:
        """Remove what no image in `keep` (manifest digests) needs; digests of all removed.

        Args:
            keep: Digests of manifests.
            spare_seconds: Images whose manifest is younger stay.

        Raises:
            ImageError: Others have been writing for too long; the disk refuses.
        """

    def holding(self) -> AbstractContextManager[None]:
        """A block in which nothing is pruned."""


OUTPUT_LOG = "output.log"  # in a unit's working directory: what the process printed


class UnitSpec(msgspec.Struct, frozen=True):
    """A process to keep apart from the agent. Its output is appended to OUTPUT_LOG.

    Attributes:
        name: Unique on the host, `sappers-…`, no suffix.
        command: Absolute program and arguments; nothing secret.
        memory_max_mib: Limit of its control group, or None.
        standard_input: Path that is opened for reading before any privilege is dropped, or empty.
        capabilities: What it may need of root's powers beside those that every unit begins with.
        prepare: Run with all of root's powers before it starts, which it does not if this fails.
        clean_up: The same, once it has ended.
    """

    name: str
    command: tuple[str, ...]
    working_directory: str
    memory_max_mib: int | None = None
    description: str = ""
    standard_input: str = ""
    capabilities: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    clean_up: tuple[str, ...] = ()


class UnitStatus(msgspec.Struct, frozen=True):
    """A supervised process, as last seen.

    Attributes:
        exit_code: When it ended, else None.
        started_at: Monotonic seconds of this host, or None when not known.
    """

    name: str
    running: bool
    exit_code: int | None = None
    started_at: float | None = None
    pid: int | None = None


class Supervisor(Protocol):
    """Runs processes that outlive the agent (`supervision/`): systemd, or detached ones."""

    async def start(self, spec: UnitSpec) -> None:
        """Start it; an ended unit of the same name is cleared first.

        Raises:
            SupervisorError: It runs already or cannot be started.
        """

    async def stop(self, name: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL; forget it. Nothing to do when it is not known."""

    async def status(self, name: str) -> UnitStatus | None:
        """How it is, or None when it is not known."""

    async def list(self, prefix: str) -> tuple[UnitStatus, ...]:
        """All known units whose name begins so."""


class ServiceRegistry(Protocol):
    """The host's Consul agent (`consul/`). Each call ends within seconds, whatever Consul does."""

    async def services(self) -> Sequence[ServiceReading]:
        """All that is registered at this very Consul agent, by whomever, but for mesh proxies.

        Raises:
            ConsulError: It does not answer, or answers an error.
        """

    async def execute(self, change: ServiceChange) -> None:
        """Register, deregister or report; repeating it changes nothing.

        Raises:
            ConsulError: As `services`.
        """

    async def check_catalog(self) -> None:
        """Whether what is registered here reaches the others.

        Raises:
            ConsulError: Consul's servers have no leader, or cannot be reached.
        """


class ServiceCatalog(Protocol):
    """What is known of the guests' health across the cluster (`consul/`)."""

    def follow(self, cluster_id: str, services: Collection[str]) -> None:
        """Follow just these services of this cluster from now on; asks in the background."""

    def passing(self) -> Mapping[str, Sequence[Backend]]:
        """Guests that pass all their checks, by service, of services that an answer came for.

        Nothing is forgotten while no further answer comes.
        """

    def changes(self) -> AsyncIterator[None]:
        """Yields whenever `passing()` may differ."""


class MeshProxies(Protocol):
    """The Connect proxies of this member's guests (`consul/`)."""

    async def keep(self, plan: MeshPlan) -> None:
        """Have just these proxies run, in units of their own, and be known to Consul.

        Those that run go on whatever Consul does.

        Raises:
            SappersError: Some do not run, or Consul does not know of them; the rest was done.
        """


class Intentions(Protocol):
    """Who may call whom in the mesh, and with which tokens (`consul/`)."""

    async def intentions(self) -> Sequence[IntentionReading]:
        """All there are, by whomever.

        Raises:
            ConsulError: Consul does not answer, or answers an error.
        """

    async def execute(self, change: IntentionChange) -> None:
        """Make, change or remove one; repeating it changes nothing.

        Raises:
            ConsulError: As `intentions`.
        """

    async def tokens(self) -> Sequence[ProxyToken]:
        """All tokens there are, by whomever; none where Consul asks for none.

        Raises:
            ConsulError: As `intentions`.
        """

    async def revoke(self, token: ProxyToken) -> None:
        """Take a token back.

        Raises:
            ConsulError: As `intentions`.
        """


class Gateway(Protocol):
    """This member's way in for requests to services (`gateway/`)."""

    async def route(self, routes: Sequence[Route]) -> None:
        """Have it run with just these routes; nothing to do if it does already.

        Raises:
            GatewayError: It does not run, and why; or it refuses what it is told.
        """

    def routes(self) -> tuple[Route, ...]:
        """What it was told last, if by an agent or on a boot before this one."""

    async def stop(self) -> None:
        """Make it run no more."""


class HealthInbox(Protocol):
    """The last health push of each guest on this member (`agent/`)."""

    def last(self) -> Mapping[str, HealthPush]:
        """By allocation id."""


class PeerClient(Protocol):
    """Calls other members' HTTP API (`api/`)."""

    async def call(
        self, member: Member, method: str, path: str, *, body: Any = None, timeout_seconds: float
    ) -> bytes:
        """One call; the answer's body. `body` is encoded as JSON unless it is bytes.

        Raises:
            ApiError: The member answered an error (its status) or did not answer (status 0).
        """


class ChunkSource(Protocol):
    """Fetches chunks from other members over blocking sockets (`api/`); for threads."""

    def get(self, member: Member, chunk: str) -> bytes:
        """A chunk's frame as it came, not checked.

        Raises:
            ApiError: The member answered an error (its status) or did not answer (status 0).
        """


class ImageFigures(msgspec.Struct, frozen=True):
    """What images have cost a member since its agent started.

    Attributes:
        bytes_fetched: Frames that came from other members and were stored.
        bytes_received: Frames that an operator sent and were stored.
        bytes_sent: Frames that went to others.
        chunks_damaged: Frames that came and did not match.
        uploads_refused: Calls for a chunk that were told to come later.
        whole: How many of the wanted images are whole here.
        wanted: How many this member is to have.
    """

    bytes_fetched: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    chunks_damaged: int = 0
    uploads_refused: int = 0
    whole: int = 0
    wanted: int = 0


class MemberImages(Protocol):
    """The images on this member, as others see and feed them (`agent/`)."""

    def held(self, digest: str) -> tuple[int, int]:
        """How many chunks are here, of how many; (0, 0) while that is not known."""

    def why_not(self, digest: str) -> str:
        """Why an image is not whole here, or empty."""

    def figures(self) -> ImageFigures:
        """What images have cost so far."""

    async def signed(self, digest: str) -> SignedManifest | None:
        """The signed manifest; None when it is not here, damaged, or signed by nobody trusted."""

    async def accept(self, digest: str, signed: SignedManifest) -> Manifest:
        """Keep a manifest; its chunks are accepted, and fetched, from now on.

        Raises:
            ImageUntrusted: No trusted key signed it.
            ImageError: It is another image's, or makes no sense; the disk is full.
        """

    async def chunks_here(self, digest: str, seen: int, wait_seconds: float) -> ChunksHere | None:
        """Which chunks are here; None without a manifest.

        With `wait_seconds` the answer waits, but not longer, until there are not `seen` of them.
        """

    async def accept_chunk(self, chunk: str, frame: bytes) -> None:
        """Keep a chunk that an image whose manifest is here needs.

        Raises:
            ImageError: None needs it; it is damaged; the disk is full.
        """

    def uploading(self) -> AbstractAsyncContextManager[None]:
        """A slot for sending one chunk, for the block.

        Raises:
            MemberBusy: There is none, and none comes free soon.
        """

    async def give_chunk(self, chunk: str) -> bytes | None:
        """A chunk's frame, once the bandwidth allows it to go; None when it is not here."""

    async def warm(self, digest: str) -> str:
        """Have what lets guests of an image start quickly; what happened, for a person.

        Raises:
            ImageError: The image is not whole here.
            SappersError: It cannot be had; says why.
        """


LogLevel = Literal["DEBUG", "INFO", "WARN", "ERROR"]


class EventRecord(Protocol):
    """This member's own record of events, in files (`agent/`)."""

    async def read(self, wanted: EventFilter, limit: int) -> tuple[Event, ...]:
        """Events that match, oldest first: the oldest of them, or the newest; see the filter."""

    async def check(self) -> EventCheck:
        """Whether the record is whole, and what to compare with others'."""

    async def explain(self, name: str) -> Story | None:
        """What led to how a workload, member, allocation or repair is; None if never heard of."""


class MemberService(Protocol):
    """What the HTTP API may ask of this member (`agent/`)."""

    @property
    def events(self) -> EventRecord:
        """What happened, as this member wrote it down."""

    @property
    def me(self) -> Member:
        """This member."""

    @property
    def log(self) -> ReplicatedLog:
        """The log as it is now; another object once this member becomes a voter."""

    @property
    def images(self) -> MemberImages:
        """The images on this host."""

    def members(self) -> tuple[Member, ...]:
        """What gossip says."""

    def leader(self) -> Member | None:
        """Who leads, as far as this member knows."""

    @property
    def hub_connected(self) -> bool:
        """Whether this member's client is connected to the hub."""

    def refused(self) -> Mapping[str, int]:
        """What was refused to guests and strangers since the agent started, by kind."""

    def pushes_heard(self) -> int:
        """Health pushes of guests here that were taken since the agent started."""

    async def health(self) -> MemberHealth:
        """This member's short word about itself, from memory."""

    async def view(self) -> ClusterView:
        """The cluster for `status`."""

    def check_repair_access(self, key: RepairKey, logins: Sequence[RepairLogin]) -> None:
        """Whether the cluster's own authority says so.

        Raises:
            IdentityError: As `RepairSigner.check`.
        """

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        """Propose here if this member leads, else through the leader's API.

        Raises:
            NoQuorum: No leader is known, or it cannot commit.
            ProposalRejected, OutcomeUnknown: As `ReplicatedLog.propose`.
        """

    async def hear_quorum(self) -> QuorumHeard:
        """Ask the quorum, as its leader.

        Raises:
            ProposalRejected, OutcomeUnknown: As `ReplicatedLog.read_barrier`.
        """

    async def serial_log(self, allocation_id: str, tail_bytes: int) -> str:
        """The end of what a guest printed, from whichever member has it."""

    def set_log_level(self, level: LogLevel) -> None:
        """Log what is of this level or above from now on."""

    async def accept_genesis(self, genesis: Genesis) -> None:
        """Become a voter as the founder says.

        Raises:
            IdentityError: This member has another genesis already, or is not named in it.
        """
