"""Real hub clusters on loopback addresses."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from sappers.errors import HubError, SupervisorError
from sappers.hub.carry_over import CarryOver
from sappers.hub.client import NatsHubClient
from sappers.hub.credentials import (
    AgentCredentials,
    HubAccount,
    create_hub_account,
    create_hub_key,
)
from sappers.hub.server import UNIT, NatsHubServer, find_nats_server
from sappers.hub.server_folder import ServerFolder
from sappers.hub.servers import NatsHubServers
from sappers.hub.streams import NatsStreams
from sappers.model.actions import RunHubServer
from sappers.model.guest_scope import GuestScope
from sappers.model.hub import BY_SEED
from sappers.model.member import Accelerator, Member, Ports, Resources
from sappers.ports import UnitSpec, UnitStatus
from sappers.security.authority import Authority, create_authority
from sappers.security.tls import Identity
from tests.identities import make_cluster_identities
from tests.loopback import free_port
from tests.waiting import eventually


class ProcessSupervisor:
    """Runs units as children of the test."""

    def __init__(self) -> None:
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.starts = 0

    async def start(self, spec: UnitSpec) -> None:
        self.starts += 1
        self.processes[spec.name] = await asyncio.create_subprocess_exec(
            *spec.command, cwd=spec.working_directory
        )

    async def stop(self, name: str, grace_seconds: float) -> None:
        process = self.processes.pop(name, None)
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace_seconds)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def send_signal(self, name: str, number: signal.Signals) -> None:
        process = self.processes.get(name)
        if process is None or process.returncode is not None:
            raise SupervisorError(f"{name} does not run")
        process.send_signal(number)

    async def status(self, name: str) -> UnitStatus | None:
        process = self.processes.get(name)
        if process is None:
            return None
        return UnitStatus(
            name, process.returncode is None, exit_code=process.returncode, pid=process.pid
        )

    async def list(self, prefix: str) -> tuple[UnitStatus, ...]:
        found = [await self.status(name) for name in self.processes if name.startswith(prefix)]
        return tuple(one for one in found if one)


class Hub:
    """Some members' hub servers; each listens on a loopback address of its own.

    With `own_keys` each member has one, else all admit users with the hub's seed, as before.
    """

    def __init__(self, folder: Path, addresses: dict[str, str], *, own_keys: bool = False) -> None:
        self.folder = folder
        self.authority: Authority = create_authority("test")
        self.account: HubAccount = create_hub_account("test")
        self.credentials = AgentCredentials(self.account.account_seed)  # of before
        self.access = BY_SEED
        self.own = {
            name: AgentCredentials(self.account.account_seed, create_hub_key() if own_keys else "")
            for name in addresses
        }
        # Certificates name no address: what counts is who a server is, not where.
        self.identities: dict[str, Identity] = make_cluster_identities(
            folder, list(addresses), addresses=(), authority=self.authority
        )
        ports = Ports(hub=free_port(), hub_routes=free_port())
        self.members = {
            name: Member(name, name, address, ports, Resources(1, 512), Accelerator("tcg", ""), "0")
            for name, address in addresses.items()
        }
        self.supervisors = {name: ProcessSupervisor() for name in addresses}
        self.servers = {name: self.server(name) for name in addresses}
        self.clients: list[NatsHubClient] = []

    def server(self, name: str) -> NatsHubServer:
        hub = self.folder / name / "hub"
        hub.mkdir(exist_ok=True)
        (hub / "account.jwt").write_text(self.account.account_jwt)
        return NatsHubServer(
            self.files(name),
            self.identities[name],
            self.supervisors[name],
            self.own[name],
            listen_address=self.members[name].address,
        )

    def carry_over(self, name: str, streams: NatsStreams) -> None:
        """Have a member bring along what its server kept while it was the only one."""
        folder, identity = self.files(name), self.identities[name]
        self.servers[name] = NatsHubServer(
            folder,
            identity,
            self.supervisors[name],
            self.credentials,
            listen_address=self.members[name].address,
            carry_over=CarryOver(
                folder,
                identity,
                self.supervisors[name],
                streams,
                self.credentials,
                find_nats_server,
            ),
        )

    def files(self, name: str) -> ServerFolder:
        return ServerFolder(self.folder / name / "hub", self.identities[name])

    def log(self, name: str) -> str:
        return self.files(name).log_file.read_text()

    async def run(self, *names: str, term: int = 1, refused: Sequence[str] = ()) -> None:
        """Make the hub run on just these members, without these guests."""
        members = tuple(self.members[name] for name in names)
        wanted = RunHubServer(members, term, tuple(refused), self.access)
        await asyncio.gather(*(self.servers[name].run(wanted) for name in names))

    async def client(
        self,
        *servers: str,
        credentials: str | None = None,
        identity: Identity | None = None,
        wait: bool = True,
    ) -> NatsHubClient:
        client = NatsHubClient(
            identity or next(iter(self.identities.values())),
            lambda: credentials or self.credentials.agent("test"),
        )
        self.clients.append(client)
        await client.connect([self.members[name] for name in servers])
        if wait:
            await eventually(lambda: client.connected)
        return client

    def cluster(self, client: NatsHubClient) -> NatsHubServers:
        """The servers as a cluster, as the member that leads sees them."""
        identity = next(iter(self.identities.values()))
        return NatsHubServers(
            client, lambda: NatsHubClient(identity, lambda: self.credentials.system("test"))
        )

    def guest(self, allocation_id: str, *links: str, seconds: float = 600.0, **more: str) -> str:
        """Credentials of a guest; its workload's name is its own without the last part."""
        workload = allocation_id.rpartition("-")[0] or allocation_id
        scope = GuestScope(allocation_id, workload, links, **more)
        return self.credentials.mint(scope, time.time() + seconds)

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        process = self.supervisors[name].processes[UNIT]
        process.send_signal(number)
        if number is signal.SIGKILL:
            await process.wait()

    async def down(self) -> None:
        for client in self.clients:
            await client.close()
        for supervisor in self.supervisors.values():
            await self._resume(supervisor)
            await supervisor.stop(UNIT, 3.0)

    @staticmethod
    async def _resume(supervisor: ProcessSupervisor) -> None:
        process = supervisor.processes.get(UNIT)
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGCONT)


async def kept(streams: NatsStreams, workload: str, replicas: int) -> None:
    """Have a stream, as soon as the servers can make one."""

    async def make() -> bool:
        try:
            await streams.keep(workload, replicas)
        except HubError:
            await asyncio.sleep(0.2)
            return False
        return True

    await eventually(make)


class Inbox:
    """What a subscription received."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []

    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.messages]

    async def __call__(self, subject: str, payload: bytes) -> None:
        self.messages.append((subject, payload))


async def hears(sender: NatsHubClient, inbox: Inbox, subject: str) -> None:
    """Publish until the inbox has it: interest needs a moment to spread."""
    seen = len(inbox.messages)

    async def arrived() -> bool:
        await sender.publish(subject, b"x")
        await asyncio.sleep(0.05)
        return len(inbox.messages) > seen

    await eventually(arrived)
