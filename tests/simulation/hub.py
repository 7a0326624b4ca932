"""The hub simulated: at most once, in order, between those whose servers hear each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sappers.model import subjects
from sappers.model.actions import RunHubServer
from sappers.model.durable import StreamReading
from sappers.model.hub import HubAction, HubReading
from sappers.model.member import Member
from tests.simulation.loop import Life, VirtualLoop
from tests.simulation.network import Network


class Hub:
    """Every server and every subscription."""

    def __init__(
        self, loop: VirtualLoop, network: Network, revoked_at: Callable[[str], Collection[str]]
    ) -> None:
        """`revoked_at`: whom the server of a host lets in no more."""
        self._revoked_at = revoked_at
        self.loop = loop
        self.network = network
        self.servers: dict[str, tuple[str, ...]] = {}  # host -> members it runs with
        self.clients: list[SimulatedHubClient] = []

    def servers_of(self, host: str, named: Sequence[str]) -> list[str]:
        """Running servers that a host hears, and that let it in."""
        return self._heard(host, named, {one: self._revoked_at(one) for one in named})

    def _heard(
        self, host: str, named: Sequence[str], revoked: Mapping[str, Collection[str]]
    ) -> list[str]:
        """As above, for many clients in one moment: `revoked` of each server."""
        return [
            one
            for one in named
            if one in self.servers and self.network.talk(host, one) and host not in revoked[one]
        ]

    def publish(self, source: str, servers: Sequence[str], subject: str, payload: bytes) -> None:
        """Bring a message to everyone who listens and is connected now."""
        talk = self.network.talk
        revoked = {one: self._revoked_at(one) for one in self.servers}
        reach = {
            b
            for a in self._heard(source, servers, revoked)
            for b in self.servers
            if talk(a, b) and b not in revoked[a] and a not in revoked[b]
        }
        if not reach:
            return
        for client in list(self.clients):
            if client.life.is_over or not client.hears(subject):
                continue
            if any(one in reach for one in self._heard(client.host, client.named, revoked)):
                self.network.send(
                    source, client.host, client.life, client.arrive, subject, payload, reliable=True
                )


class _Subscription:
    def __init__(self, loop: VirtualLoop, received: Any) -> None:
        self._loop = loop
        self._received = received
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._is_busy = False

    def take(self, subject: str, payload: bytes) -> None:
        self._waiting.append((subject, payload))
        if not self._is_busy:
            self._is_busy = True
            self._loop.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._received(*self._waiting.popleft())
        finally:
            self._is_busy = False


class SimulatedHubClient:
    """Implements `ports.HubClient` for one agent's life."""

    def __init__(self, hub: Hub, life: Life, host: str) -> None:
        self._hub = hub
        self.life = life
        self.host = host
        self.named: tuple[str, ...] = ()
        self._exact: dict[str, list[_Subscription]] = {}
        self._wild: dict[str, list[_Subscription]] = {}
        hub.clients.append(self)
        life.at_end(lambda: hub.clients.remove(self))

    async def connect(self, servers: Sequence[Member]) -> None:
        self.named = tuple(server.id for server in servers)

    @property
    def connected(self) -> bool:
        return bool(self._hub.servers_of(self.host, self.named))

    async def publish(self, subject: str, payload: bytes) -> None:
        self._hub.publish(self.host, self.named, subject, payload)

    async def subscribe(self, subject: str, received: Any, **_: Any) -> Any:
        table = self._wild if "*" in subject or ">" in subject else self._exact
        mine = _Subscription(self._hub.loop, received)
        table.setdefault(subject, []).append(mine)

        def leave() -> None:
            if mine in table.get(subject, ()):
                table[subject].remove(mine)
                if not table[subject]:
                    del table[subject]

        return leave

    async def serve(self, subject: str, queue: str, answer: Any, **_: Any) -> Any:
        return lambda: None  # no guest asks here

    async def close(self) -> None:
        self.named = ()

    def hears(self, subject: str) -> bool:
        return subject in self._exact or any(subjects.matches(p, subject) for p in self._wild)

    def arrive(self, subject: str, payload: bytes) -> None:
        for one in list(self._exact.get(subject, ())):
            one.take(subject, payload)
        for pattern, listening in list(self._wild.items()):
            if subjects.matches(pattern, subject):
                for one in list(listening):
                    one.take(subject, payload)


class SimulatedHubServer:
    """Implements `ports.HubServer` for one host; the server outlives the agent."""

    def __init__(self, hub: Hub, host: str) -> None:
        self._hub = hub
        self._host = host

    async def run(self, wanted: RunHubServer) -> None:
        self._hub.servers[self._host] = tuple(server.id for server in wanted.servers)

    async def stop(self) -> None:
        self._hub.servers.pop(self._host, None)

    async def running_with(self) -> tuple[str, ...] | None:
        return self._hub.servers.get(self._host)


class NoStreams:
    """Implements `ports.DurableStreams`: streams are JetStream's matter."""

    async def streams(self) -> Mapping[str, StreamReading]:
        return {}

    async def keep(self, workload: str, replicas: int) -> None:
        pass

    async def remove(self, workload: str) -> None:
        pass


class NoHolders:
    """Implements `ports.HubServers`: no server has what another would have to take over."""

    async def read(self, servers: Sequence[Member]) -> HubReading:
        return HubReading(peers={server.id: True for server in servers})

    async def act(self, action: HubAction, servers: Sequence[Member]) -> None:
        pass
