"""Routes: which healthy guests of which service the gateway sends requests to."""

from __future__ import annotations

import msgspec


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
