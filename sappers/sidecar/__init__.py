"""What runs inside a guest: the sidecar, and what its application says to it.

    from sappers.sidecar import connect

    with connect() as hub:                       # blocking; `connect_async` for asyncio
        hub.publish("orders.seen", b"17")        # sappers.app.<workload>.orders.seen
        answer = hub.request("sappers.app.billing.price", b"17")
        for message in hub.consume():            # durable: delivered until it is settled
            hub.settle(message)

    from sappers.sidecar import link

    place = link("db")                           # "10.0.2.2:22017": a service of the mesh

Standard library only, but for the link to the hub itself (nats-py); everything is imported late.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sappers.sidecar.async_client import AsyncSidecar, connect_async
    from sappers.sidecar.client import Sidecar, connect
    from sappers.sidecar.links import link
    from sappers.sidecar.message import DurableMessage, Message, MessagingError, Stored

_FROM = {
    "AsyncSidecar": "async_client",
    "DurableMessage": "message",
    "Message": "message",
    "MessagingError": "message",
    "Sidecar": "client",
    "Stored": "message",
    "connect": "client",
    "connect_async": "async_client",
    "link": "links",
}

__all__ = [
    "AsyncSidecar",
    "DurableMessage",
    "Message",
    "MessagingError",
    "Sidecar",
    "Stored",
    "connect",
    "connect_async",
    "link",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for now: PID 1 needs none of it."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)
