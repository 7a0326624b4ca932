"""One call as a route's handler gets it: who asks, what for, and the member that answers."""

from __future__ import annotations

from typing import Any

import msgspec

from sappers.ports import MemberService
from sappers.security.tls import PeerIdentity

PROPOSE_TIMEOUT_SECONDS = 5.0


class Call(msgspec.Struct, frozen=True):
    """A call whose input has been checked.

    Attributes:
        path, query, body: Values of the types that the route names.
        request_id: The caller's `Idempotency-Key`, or an id made for this call.
        now: Unix time in seconds.
    """

    service: MemberService
    peer: PeerIdentity
    path: Any
    query: Any
    body: Any
    request_id: str
    now: float
