"""Routes: which healthy guests of which service the gateway sends requests to."""

from __future__ import annotations

import re

import msgspec

# What may be a name in a gateway's configuration and commands, where a space begins another word.
ROUTABLE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")


class Backend(msgspec.Struct, frozen=True, order=True):
    """One guest that serves a service.

    Attributes:
        id: The allocation's.
        address: IP address of the member that publishes its port.
        port: The published port.
    """

    id: str
    address: str
    port: int


class Route(msgspec.Struct, frozen=True):
    """A service that requests under `/<service>` go to; without backends they are told to wait."""

    service: str
    backends: tuple[Backend, ...] = ()
