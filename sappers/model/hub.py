"""The hub's servers, as far as durable messages go."""

from __future__ import annotations

import msgspec


def server_name(member_id: str, times_left: int) -> str:
    """What a member's server is called.

    JetStream takes back nobody that it has forgotten, for minutes and by name: whoever comes back
    has another one.
    """
    return f"{member_id}@{times_left}" if times_left else member_id


def member_of(server: str) -> str:
    """The member whose server is called so."""
    return server.partition("@")[0]


class HubReading(msgspec.Struct, frozen=True):
    """Where durable messages are, as the hub says it.

    Attributes:
        holders: Servers, by name, that have a part of a stream or of its consumer.
        settled: Every stream is on as many servers as it should be, and all of them are up to date.
        peers: Whether it is online, by name: all that vote about where streams are.
    """

    holders: frozenset[str] = frozenset()
    settled: bool = True
    peers: dict[str, bool] = {}


class EvacuateServer(msgspec.Struct, frozen=True):
    """Have other servers take over all that a server has of streams; it goes on meanwhile."""

    name: str


class ForgetServer(msgspec.Struct, frozen=True):
    """Have a server that runs no more vote no more; what it still had is made anew elsewhere."""

    name: str


HubAction = EvacuateServer | ForgetServer
