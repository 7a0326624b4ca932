"""This member's connection to the hub: to the servers that the state names, wherever they are."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member, MemberState
from sappers.ports import HubClient


class HubConnection:
    """Keeps the client on the right servers.

    Attributes:
        servers: The members that run them, as last seen; guests are told these.
    """

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self.servers: tuple[Member, ...] = ()

    async def follow(self, state: ClusterState, gossip: Sequence[Member]) -> None:
        """Use the servers that the state names, at the addresses that gossip knows."""
        known = {member.id: member for member in gossip}
        servers = tuple(
            msgspec.structs.replace(
                known.get(server, state.members[server]).lasting(), state=MemberState.ALIVE
            )
            for server in state.hub_servers
            if server not in state.revoked
        )
        if servers and servers != self.servers:
            self.servers = servers
            await self._hub.connect(servers)
