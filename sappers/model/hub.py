"""The hub's servers, as far as durable messages go."""

from __future__ import annotations

from typing import Annotated

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


HUB_STATEMENT_BYTES_MAX = 4096


class HubKey(msgspec.Struct, frozen=True):
    """What a member says of itself, signed with its certificate, so that the hub lets it in.

    Attributes:
        signs: Public key that signs the users which it admits: itself and its guests.
        shows: SHA-256, hex, of the public key of the certificate that its hub server shows.
    """

    signs: Annotated[str, msgspec.Meta(pattern=r"\AA[A-Z2-7]{55}\Z")]
    shows: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class HubAccess(msgspec.Struct, frozen=True):
    """Whom a hub server lets in.

    Attributes:
        signers: Public keys whose users are let in.
        seed_signs: Those that the hub's seed signed are, too.
        servers_show: `HubKey.shows` of all servers; empty while not all say it: then any member's
            certificate will do.
        seen_guests: Allocations whose guests' credentials of before `seen_until`, Unix time, are
            refused: a server of a member that was revoked since may have seen them.
    """

    signers: tuple[str, ...] = ()
    seed_signs: bool = True
    servers_show: tuple[str, ...] = ()
    seen_guests: tuple[str, ...] = ()
    seen_until: float = 0.0


BY_SEED = HubAccess()  # as hub servers of before let users in


class HubReading(msgspec.Struct, frozen=True):
    """Where durable messages are, as the hub says it.

    Attributes:
        holders: Servers, by name, that have a part of a stream or of its consumer.
        settled: Every stream is on as many servers as it should be, and all of them are up to date.
        peers: Whether it is online, by name: all that vote about where streams are.
        leaderless: Workloads whose stream, or its consumer, is led by none of its servers.
    """

    holders: frozenset[str] = frozenset()
    settled: bool = True
    peers: dict[str, bool] = {}
    leaderless: frozenset[str] = frozenset()


class EvacuateServer(msgspec.Struct, frozen=True):
    """Have other servers take over all that a server has of streams; it goes on meanwhile."""

    name: str


class ForgetServer(msgspec.Struct, frozen=True):
    """Have a server that runs no more vote no more; what it still had is made anew elsewhere."""

    name: str


HubAction = EvacuateServer | ForgetServer
