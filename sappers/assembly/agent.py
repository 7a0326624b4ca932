"""What the agent is made of: which adapter stands behind each port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from sappers import __version__
from sappers.agent.address import is_local, own_address
from sappers.agent.agent import Agent
from sappers.agent.clock import SystemClock
from sappers.agent.gossip_keys import GossipKeyRing
from sappers.agent.hub.hub_keys import HubKeys
from sappers.agent.hub.hub_watch import HubWatch
from sappers.agent.hub.refusals import Refusals
from sappers.agent.hub.relay import Follower
from sappers.agent.images.heap import keep_few_arenas
from sappers.agent.logs import configure_logs, current_log_level
from sappers.agent.me import describe_member, load_node_id
from sappers.agent.mesh import Mesh
from sappers.agent.registration import Registration
from sappers.agent.routing import Routing
from sappers.agent.running import RunningAgent, announce
from sappers.api.chunk_calls import ChunkCalls, MemberChunks
from sappers.api.client import HttpPeerClient
from sappers.api.server import ApiServer
from sappers.config import HUB_USER_ID, AgentSettings, StateFolder
from sappers.consensus.collector import spare_large_states
from sappers.consensus.follower_log import FollowerLog
from sappers.consensus.joining import joiners_record
from sappers.consensus.raft_log import RaftLog
from sappers.consul.calls import ConsulCalls
from sappers.consul.catalog import ConsulCatalog
from sappers.consul.intentions import ConsulIntentions
from sappers.consul.proxies import ConnectProxies, Host
from sappers.consul.registry import ConsulRegistry
from sappers.durable import write_durably
from sappers.errors import FIT_OUT_AGAIN, ConfigError, IdentityError
from sappers.gateway.configuration import Listen
from sappers.gateway.haproxy import HaproxyGateway
from sappers.hub.carry_over import CarryOver
from sappers.hub.client import NatsHubClient
from sappers.hub.credentials import AgentCredentials, create_hub_key
from sappers.hub.server import NatsHubServer, find_nats_server
from sappers.hub.server_folder import ServerFolder
from sappers.hub.servers import NatsHubServers
from sappers.hub.streams import NatsStreams
from sappers.hub.violations import ViolationLog
from sappers.images.store import FolderImageStore
from sappers.launchers.accelerator import detect_accelerator
from sappers.launchers.guest_identity import user_id_for
from sappers.launchers.link_doors import close_doors, open_doors
from sappers.launchers.qemu import QemuLauncher
from sappers.membership.gossip import KinshipMembership
from sappers.model.gossip_keys import GossipKeys, parse_gossip_keys
from sappers.model.hub import HubKey
from sappers.model.known_types import learn_all
from sappers.model.view import Genesis
from sappers.ports import ReplicatedLog, Supervisor
from sappers.security.identity import key_digest, load_identity
from sappers.security.messages import MessageSigner
from sappers.security.renewal import Renewal
from sappers.security.repair_authority import SealedRepairSigner
from sappers.security.tls import Identity
from sappers.supervision import SystemdSupervisor, choose_supervisor

_log = structlog.get_logger(__name__)

ADDRESS_CHECK_SECONDS = 5.0
CERTIFICATE_CHECK_SECONDS = 5.0
# Of the disk: a voter that cannot write its log ends, and one image may fill every voter's disk.
IMAGES_LEAVE_BYTES = 256 << 20


def make_folders(folder: StateFolder) -> None:
    """Have what parts of an agent take for there.

    Raises:
        ConfigError: One cannot be made; says which.
    """
    for part in (folder.images, folder.guests, folder.hub, folder.raft):
        try:
            part.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(
                f"{part} cannot be made a folder: {error.strerror}",
                hint="make room on its disk, or move what is in its place away",
            ) from error


async def run_agent(
    folder: StateFolder, settings: AgentSettings, node_id: str | None, lock: int
) -> None:
    """Run the agent of this host until SIGTERM or SIGINT.

    Args:
        folder: STATE_DIR, claimed.
        settings: Of this agent.
        node_id: The id that it must have, or None.
        lock: Descriptor of the claim.

    Raises:
        SappersError: It cannot start; says what is missing or wrong.
    """
    keep_few_arenas()
    learn_all()
    spare_large_states(seldom=200)
    facts: dict[str, Callable[[], Any]] = {}
    configure_logs(settings.log_level, lambda: {name: fact() for name, fact in facts.items()})
    make_folders(folder)
    settings = msgspec.structs.replace(
        settings, address=own_address(settings.address, settings.peers)
    )
    me_id = load_node_id(folder.node_id, settings.node_name, node_id)
    identity = load_identity(folder.pki)
    if identity.node_id != me_id:
        raise IdentityError(
            f"{identity.cert} is the certificate of {identity.node_id}, this member is {me_id}",
            hint=FIT_OUT_AGAIN,
        )
    renewal = Renewal(identity)
    peers = HttpPeerClient(identity)
    chunks = ChunkCalls(identity)
    refusals = Refusals(SystemClock())
    consul = ConsulCalls(settings.consul) if settings.consul.enabled else None
    agent = _assemble(folder, settings, identity, peers, chunks, refusals, consul, renewal)
    peers.is_revoked = agent.outlook.is_revoked
    facts.update(_log_facts(agent))
    server = ApiServer(
        agent.service,
        identity,
        settings.listen_address,
        settings.ports.http,
        clock=SystemClock(),
        refusals=refusals,
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await agent.start()
    await server.start()
    announce(lock, RunningAgent(me_id, os.getpid(), settings.address, settings.ports.http))
    _log.info(
        "agent runs",
        address=settings.address,
        listens_at=settings.listen_address,
        ports=msgspec.structs.asdict(settings.ports),
        version=__version__,
    )
    watch = asyncio.create_task(_stop_when_address_is_gone(settings.address, stopping))
    renewing = asyncio.create_task(_renew(renewal, agent.certificate_renewed))
    try:
        await agent.run(stopping)
    finally:
        watch.cancel()
        renewing.cancel()
        await server.stop()
        chunks.close()
        if consul:
            consul.close()
        await peers.close()
    if not is_local(settings.address):
        raise ConfigError(
            f"address {settings.address} is gone from this host",
            hint="started again, the agent takes the one it has then",
        )


async def _stop_when_address_is_gone(address: str, stopping: asyncio.Event) -> None:
    """Every listener is bound to the address; without it only a new start helps."""
    while is_local(address):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ADDRESS_CHECK_SECONDS):
                await stopping.wait()
            return
    stopping.set()


async def _renew(renewal: Renewal, renewed: Callable[[], None]) -> None:
    """Use certificates that bootstrap, or whoever else, has replaced."""
    while True:
        await asyncio.sleep(CERTIFICATE_CHECK_SECONDS)
        if renewal.look():
            renewed()


def _log_facts(agent: Agent) -> Mapping[str, Callable[[], Any]]:
    return {
        "member": lambda: agent.me.id,
        "term": lambda: agent.log.status().term if agent.has_log else 0,
        "index": lambda: agent.log.status().applied_index if agent.has_log else 0,
    }


def _assemble(
    folder: StateFolder,
    settings: AgentSettings,
    identity: Identity,
    peers: HttpPeerClient,
    chunks: ChunkCalls,
    refusals: Refusals,
    consul: ConsulCalls | None,
    renewal: Renewal,
) -> Agent:
    clock = SystemClock()
    accelerator = detect_accelerator()
    me = describe_member(
        settings,
        identity.node_id,
        accelerator,
        __version__,
        has_vote=folder.genesis.exists(),
    )
    hub_seed = _read_secret(folder.hub_seed)
    credentials = AgentCredentials(
        hub_seed,
        _own_hub_key(folder.hub_key),
        lambda: agent.outlook.is_let_in(),
        lambda: agent.outlook.last_revocation(),
    )
    supervisor = choose_supervisor(folder.processes)
    mesh = _mesh(folder, settings, supervisor, consul)
    # Only a unit of systemd's can show a server that is not root its folder alone.
    hub_user = HUB_USER_ID if isinstance(supervisor, SystemdSupervisor) else None
    server_folder = ServerFolder(folder.hub, identity, hub_user)
    agent: Agent
    images = FolderImageStore(
        folder.images, lambda: agent.outlook.trusted_image_keys(), IMAGES_LEAVE_BYTES
    )
    launcher = QemuLauncher(
        folder=folder.guests,
        templates=folder.templates,
        spares=folder.spares,
        images=images,
        supervisor=supervisor,
        hub=lambda: agent.hub_members(),
        ca=identity.ca,
        credentials=credentials,
        scope_of=lambda allocation_id: agent.outlook.scope_to_renew(allocation_id),
        links_of=mesh.links_of,
        accelerator=accelerator,
        address=settings.address,
        clock=clock,
        refusals=refusals,
        lease_of=lambda allocation_id: agent.lease_of(allocation_id),
        hub_term=lambda: agent.log.state().hub_term,
    )

    def open_voter_log(genesis: Genesis) -> ReplicatedLog:
        return RaftLog(
            identity.node_id,
            genesis,
            folder.raft,
            identity,
            settings.raft,
            (settings.listen_address, settings.ports.raft),
            lambda voter: agent.outlook.raft_address_of(voter),
            clock,
            current_log_level,
            renewals=lambda: renewal.count,
            others=lambda: agent.outlook.voter_addresses(),
            agent_lives=lambda: agent.goes_round,
            lease_seconds=settings.fencing.lease_seconds,
        )

    def open_following_log(follower: Follower) -> FollowerLog:
        return FollowerLog(follower.fetch_snapshot, follower.fetch_entries, folder.replica)

    keys = _gossip_keys(folder.gossip_key)
    membership = KinshipMembership(me=me, settings=settings, keys=keys, known=folder.known_members)
    hub_client = NatsHubClient(identity, lambda: credentials.agent(identity.node_id))
    messages = MessageSigner(identity, lambda: renewal.count)
    hub_key = partial(_said_hub_key, credentials, identity)
    streams = NatsStreams(hub_client)
    agent = Agent(
        settings=settings,
        folder=folder,
        me=me,
        clock=clock,
        membership=membership,
        gossip_keys=GossipKeyRing(folder.gossip_key, keys, membership, peers),
        hub_client=hub_client,
        messages=messages,
        hub_keys=HubKeys(identity.node_id, hub_key, messages, clock),
        hub_server=_hub_server(server_folder, settings, identity, supervisor, credentials, streams),
        launcher=launcher,
        images=images,
        peers=peers,
        chunks=MemberChunks(chunks, lambda one: agent.outlook.is_revoked(one)),
        refusals=refusals,
        hub_watch=HubWatch(
            hub=hub_client,
            violations=ViolationLog(server_folder.log_file),
            holder=credentials.holder,
            refusals=refusals,
        ),
        registration=Registration(ConsulRegistry(consul) if consul else None, clock),
        repair_signer=SealedRepairSigner(hub_seed),
        credentials=credentials,
        routing=_routing(folder, settings, supervisor, consul),
        mesh=mesh,
        streams=streams,
        hub_servers=NatsHubServers(
            hub_client,
            lambda: NatsHubClient(identity, lambda: credentials.system(identity.node_id)),
        ),
        open_voter_log=open_voter_log,
        open_following_log=open_following_log,
        joiners_record=joiners_record,
    )
    return agent


def _hub_server(
    folder: ServerFolder,
    settings: AgentSettings,
    identity: Identity,
    supervisor: Supervisor,
    credentials: AgentCredentials,
    streams: NatsStreams,
) -> NatsHubServer:
    return NatsHubServer(
        folder,
        identity,
        supervisor,
        credentials,
        listen_address=settings.listen_address,
        carry_over=CarryOver(folder, identity, supervisor, streams, credentials, find_nats_server),
    )


def _routing(
    folder: StateFolder, settings: AgentSettings, supervisor: Supervisor, consul: ConsulCalls | None
) -> Routing:
    port = settings.ports.gateway
    return Routing(
        HaproxyGateway(folder.gateway, supervisor, Listen(settings.listen_address, port)),
        ConsulCatalog(consul) if consul and port else None,
    )


def _mesh(
    folder: StateFolder, settings: AgentSettings, supervisor: Supervisor, consul: ConsulCalls | None
) -> Mesh:
    """Guests have links only where systemd's units can keep all others from them."""
    clock = SystemClock()
    guarded = isinstance(supervisor, SystemdSupervisor)
    host = Host(user_id_for, open_doors, close_doors) if guarded else None
    with_tokens = bool(settings.consul.token_file)
    return Mesh(
        folder.mesh / "ports.json",
        clock,
        ConnectProxies(folder.mesh, consul, settings.consul, supervisor, clock, host),
        ConsulIntentions(consul, with_tokens=with_tokens) if consul else None,
    )


def _gossip_keys(path: Path) -> GossipKeys:
    try:
        return parse_gossip_keys(_read_secret(path))
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path} is damaged", hint=FIT_OUT_AGAIN) from error


def _own_hub_key(path: Path) -> str:
    """The seed of this member's own key for the hub; the first start makes it."""
    if not path.exists():
        write_durably(path, f"{create_hub_key()}\n".encode())
    return _read_secret(path)


def _said_hub_key(credentials: AgentCredentials, identity: Identity) -> HubKey:
    return HubKey(credentials.signs, key_digest(identity.cert))


def _read_secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint=FIT_OUT_AGAIN) from error
