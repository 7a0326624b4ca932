"""Asks for the addresses of host names."""

from __future__ import annotations

import socket


def resolve_address(name: str) -> str:
    """The IP address of a host name, IPv4 first; an address is its own.

    Raises:
        OSError: It has none.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    found.sort(key=lambda entry: entry[0] is not socket.AF_INET)
    return str(found[0][4][0])
