"""The hub's servers as a cluster: what each has of durable messages, who leaves, who is forgotten.

What concerns servers is asked in their own account, with credentials of that account.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from nats.js import api
from nats.js.errors import NotFoundError, ServiceUnavailableError

from sappers.errors import HubError
from sappers.hub.client import NatsHubClient
from sappers.hub.streams import CONSUMER, STREAM_PREFIX, said_plainly
from sappers.model.hub import EvacuateServer, HubAction, HubReading
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member

_CALL_SECONDS = 5.0
_SILENT_SECONDS = 5.0  # they say something every second
_LEADER = "$SYS.REQ.SERVER.PING.JSZ"
_T = TypeVar("_T")


class _Peer(msgspec.Struct, frozen=True):
    name: str
    offline: bool = False
    active: int = 0  # nanoseconds since the group's leader heard it; 0: it never has

    @property
    def is_online(self) -> bool:
        """Servers that were told to leave are called offline after minutes only."""
        return not self.offline and 0 < self.active < _SILENT_SECONDS * 1e9


class _Group(msgspec.Struct, frozen=True):
    leader: str = ""
    replicas: tuple[_Peer, ...] = ()


class _Jsz(msgspec.Struct, frozen=True):
    meta_cluster: _Group = _Group()


class _Said(msgspec.Struct, frozen=True):
    data: _Jsz = _Jsz()


class _Done(msgspec.Struct, frozen=True):
    success: bool = False
    error: dict[str, Any] = {}


class NatsHubServers:
    """Implements `ports.HubServers`.

    Args:
        client: Asks about streams.
        open_client: A further client, with credentials of the servers' own account.
    """

    def __init__(self, client: NatsHubClient, open_client: Callable[[], NatsHubClient]) -> None:
        self._client = client
        self._open_client = open_client

    async def read(self, servers: Sequence[Member]) -> HubReading:
        """Where durable messages are.

        Raises:
            HubError: The hub does not say.
        """
        if len(servers) == 1:
            return HubReading(peers={servers[0].id: True})
        groups: list[tuple[int, api.ClusterInfo | None]] = []
        leaderless: set[str] = set()
        async with said_plainly("the hub's servers"):
            streams, offset = self._client.jetstream(_CALL_SECONDS), 0
            while page := await streams.streams_info(offset=offset):
                offset += len(page)
                for info in page:
                    name = info.config.name or ""
                    if not name.startswith(STREAM_PREFIX):
                        continue
                    replicas = info.config.num_replicas or 1
                    consumer = None
                    try:
                        consumer = (await streams.consumer_info(name, CONSUMER)).cluster
                    except NotFoundError:
                        pass  # it is about to be made
                    except ServiceUnavailableError:  # of others, and of servers, there is word
                        leaderless.add(name.removeprefix(STREAM_PREFIX))
                    groups += (replicas, info.cluster), (replicas, consumer)
        async with self._system(servers) as system:
            said = await self._ask(system, _LEADER, {"leader_only": True}, _Said)
        meta = said.data.meta_cluster
        peers = {peer.name: peer.is_online for peer in meta.replicas} | {meta.leader: True}
        holders: set[str] = set()
        settled = True
        for replicas, group in groups:
            names, current = _members_of(group)
            holders |= names
            settled = settled and current == len(names) == min(replicas, len(peers))
        return HubReading(frozenset(holders), settled, peers, frozenset(leaderless))

    async def act(self, action: HubAction, servers: Sequence[Member]) -> None:
        """Have it done, or begun; what has come of it is in the next reading.

        Raises:
            HubError: The hub refuses, or does not answer.
        """
        verb = "EVACUATE" if isinstance(action, EvacuateServer) else "REMOVE"
        async with self._system(servers) as system:
            subject = f"$JS.API.SERVER.{verb}"
            done = await self._ask(system, subject, {"peer": action.name}, _Done)
        if not done.success:
            why = done.error.get("description", "no reason given")
            raise HubError(f"hub server {action.name}: {why}")

    @asynccontextmanager
    async def _system(self, servers: Sequence[Member]) -> AsyncIterator[NatsHubClient]:
        client = self._open_client()
        try:
            await client.connect(servers)
            await client.ready(_CALL_SECONDS)
            yield client
        finally:
            await client.close()

    async def _ask(
        self, system: NatsHubClient, subject: str, words: dict[str, Any], kind: type[_T]
    ) -> _T:
        answer = await system.ask(subject, msgspec.json.encode(words), _CALL_SECONDS)
        try:
            return msgspec.json.decode(answer, type=kind)
        except UNREADABLE as error:
            raise HubError(f"the hub's servers answer what cannot be read: {error}") from error


def _members_of(group: api.ClusterInfo | None) -> tuple[set[str], int]:
    """Who is in a group, and how many of them have all of it."""
    if group is None or not group.leader:
        return set(), 0
    replicas = group.replicas or []
    current = 1 + sum(bool(peer.current and not peer.offline) for peer in replicas)
    return {group.leader, *(peer.name or "" for peer in replicas)}, current
