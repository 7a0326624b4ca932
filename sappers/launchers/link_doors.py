"""Which guest may connect to which port of the host's loopback, and who answers: nft's, pure.

The agent's unit makes the sets (provisioner/bootstrap/units.py); units of proxies fill them.
"""

from __future__ import annotations

from collections.abc import Collection

from sappers.config import (
    LINK_PORTS_SET,
    LINK_SERVERS_SET,
    LINK_USERS_SET,
    PROXY_USERS_BEYOND,
)
from sappers.launchers.guest_identity import user_id_for

NFT = "/usr/sbin/nft"


def open_doors(allocation_id: str, ports: Collection[int]) -> tuple[str, ...]:
    """What lets a guest's user, and nobody else, connect to these ports, and its proxy answer."""
    return _command("add", allocation_id, ports)


def close_doors(allocation_id: str, ports: Collection[int]) -> tuple[str, ...]:
    """What takes that back."""
    return _command("delete", allocation_id, ports)


def _command(verb: str, allocation_id: str, ports: Collection[int]) -> tuple[str, ...]:
    if not ports:
        return ()
    user = user_id_for(allocation_id)
    users = ", ".join(f"{user} . {port}" for port in sorted(ports))
    servers = ", ".join(f"{user + PROXY_USERS_BEYOND} . {port}" for port in sorted(ports))
    numbers = ", ".join(str(port) for port in sorted(ports))
    return (
        NFT,
        f"{verb} element inet sappers {LINK_USERS_SET} {{ {users} }}; "
        f"{verb} element inet sappers {LINK_SERVERS_SET} {{ {servers} }}; "
        f"{verb} element inet sappers {LINK_PORTS_SET} {{ {numbers} }}",
    )
