"""This host's own address: the one it was given, or, when that is gone, the one it has now."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence

from sappers.errors import ConfigError

# In place of an address: whichever the host has, which nobody knew beforehand.
AUTO = "auto"
# Nobody has these; a packet to them would leave by the default route.
_ELSEWHERE = (("198.51.100.1", 9), ("2001:db8::1", 9))
_SIOCGIFADDR = 0x8915


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

    A host that may take any address (`AUTO`), and knows of no peer on another host, takes the one
    of its default route, else any that others could reach.

    Args:
        configured: IP address of the settings, or `AUTO`.
        peers: `address:port` of other members; nothing is sent to them.

    Raises:
        ConfigError: The host has neither.
    """
    if configured != AUTO and is_local(configured):
        return configured
    found = [_parsed(peer) for peer in peers]
    known = [peer for peer in found if peer is not None and peer[0] != configured]
    elsewhere = [peer for peer in known if not _is_loopback(peer[0])]
    reached = _source_towards(elsewhere)
    if reached is None and configured == AUTO and not elsewhere:
        reached = _source_towards(_ELSEWHERE) or _any_address()
    reached = reached or _source_towards(known)
    if reached is not None:
        return reached
    raise ConfigError(
        f"address = {configured}: this host does not have it, and no route to any peer"
        if configured != AUTO
        else "this host has no route to any peer yet",
        hint="wait for the network, or say which address it has: in agent.toml, by the inventory "
        "and sappers-deploy bootstrap, or with --raft-addr ADDRESS:PORT",
    )


def _parsed(peer: str) -> tuple[str, int] | None:
    host, _, port = peer.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _source_towards(targets: Iterable[tuple[str, int]]) -> str | None:
    """The address that packets to the first target with a route would come from."""
    for host, port in targets:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                # Connecting a datagram socket asks the routing table and sends nothing.
                probe.connect((host, port))
                return str(probe.getsockname()[0])
        except (OSError, OverflowError):
            continue
    return None


def _any_address() -> str | None:
    """The IPv4 address of the first interface that has one, loopback left out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not _is_loopback(address):
                return address
    return None
