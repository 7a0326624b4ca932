"""One call as a route's handler gets it: who asks, what for, and the member that answers."""

from __future__ import annotations

from typing import Any

import msgspec

from sappers.model.commands import Command, Proposal
from sappers.ports import MemberService
from sappers.security.tls import PeerIdentity

PROPOSE_TIMEOUT_SECONDS = 5.0


class Call(msgspec.Struct, frozen=True):
    """A call whose input has been checked.

    Attributes:
        path, query, body: Values of the types that the route names.
        request_id: Of this write under the caller's `Idempotency-Key`, or made for this call.
        now: Unix time in seconds.
    """

    service: MemberService
    peer: PeerIdentity
    path: Any
    query: Any
    body: Any
    request_id: str
    now: float

    @property
    def by(self) -> str:
        """Who asks, by certificate: `operator/NAME` or `member/ID`."""
        sort = "member" if self.peer.role == "agent" else "operator"
        return f"{sort}/{self.peer.node_id}"

    def proposal(self, *commands: Command) -> Proposal:
        """What the caller wants, as this member brings it to the log."""
        return Proposal(
            request_id=self.request_id,
            proposer=self.service.me.id,
            time=self.now,
            commands=commands,
            by=self.by,
        )
