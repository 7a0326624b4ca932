"""One call as a route's handler gets it: who asks, what for, and the member that answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from sappers.ports import MemberService
from sappers.security.tls import PeerIdentity

PROPOSE_TIMEOUT_SECONDS = 5.0


class Call(msgspec.Struct, frozen=True):
    """A call whose input has been checked.

    Attributes:
        path, query, body: Values of the types that the route names.
        content_length: What the caller says of the body's length in bytes, or None.
        request_id: The caller's `Idempotency-Key`, or an id made for this call.
        now: Unix time in seconds.
        body_chunks: The body, for routes that stream it.
    """

    service: MemberService
    peer: PeerIdentity
    path: Any
    query: Any
    body: Any
    content_length: int | None
    request_id: str
    now: float
    body_chunks: Callable[[], AsyncIterator[bytes]]
