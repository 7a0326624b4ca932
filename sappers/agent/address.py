"""This host's own address: the one it was given, or, when that is gone, the one it has now."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from sappers.errors import ConfigError

# In place of an address: the host has one by DHCP, and nobody knew it beforehand.
AUTO = "auto"


def is_local(address: str) -> bool:
    """Whether this host has the IP address right now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def own_address(configured: str, peers: Sequence[str]) -> str:
    """The configured address while this host has it, else the one it reaches its peers from.

    Args:
        configured: IP address of the settings, or `AUTO`.
        peers: `address:port` of other members; nothing is sent to them.

    Raises:
        ConfigError: The host has neither.
    """
    if configured != AUTO and is_local(configured):
        return configured
    for peer in peers:
        host, _, port = peer.rpartition(":")
        host = host.strip("[]")
        if host == configured:
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                # Connecting a datagram socket asks the routing table and sends nothing.
                probe.connect((host, int(port)))
                return str(probe.getsockname()[0])
        except (OSError, ValueError):
            continue
    raise ConfigError(
        f"address = {configured}: this host does not have it, and no route to any peer"
        if configured != AUTO
        else "this host has no route to any peer yet",
        hint="wait for the network, or correct the address and run sappers-deploy bootstrap",
    )
