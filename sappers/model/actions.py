"""Actions: what a plan may ask of the actuator, one effect each."""

from __future__ import annotations

import msgspec

from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.hub import BY_SEED, HubAccess
from sappers.model.member import Member


class LaunchGuest(msgspec.Struct, frozen=True):
    """Start the guest of an allocation; `attempt` counts from 0."""

    allocation: Allocation
    attempt: int


class StopGuest(msgspec.Struct, frozen=True):
    """Stop a guest, politely if `grace_seconds` allows, and remove all it left behind.

    Attributes:
        drain_seconds: It goes on for so long before: no gateway sends it new requests any more, and
            those that it has are answered.
    """

    allocation_id: str
    reason: str
    grace_seconds: float = 5.0
    drain_seconds: float = 0.0


class RestartGuest(msgspec.Struct, frozen=True):
    """Stop a guest that failed and start it again on the same member.

    Attributes:
        grace_seconds: 0 where nobody is left to ask: it is killed at once.
    """

    allocation: Allocation
    attempt: int
    reason: str
    grace_seconds: float = 0.0


class ReportStatus(msgspec.Struct, frozen=True):
    """Tell the leader how an allocation of this member is."""

    allocation_id: str
    status: AllocationStatus
    reason: str
    restarts: int


class RunHubServer(msgspec.Struct, frozen=True):
    """Run this member's nats-server with these members, itself among them.

    Attributes:
        term: Of the leader that decided it.
        refused: Allocations that are over: their guests are cut off, whatever they show.
        access: Whom it lets in; everybody else is cut off.
    """

    servers: tuple[Member, ...]
    term: int
    refused: tuple[str, ...] = ()
    access: HubAccess = BY_SEED


class StopHubServer(msgspec.Struct, frozen=True):
    """Run no nats-server here."""

    reason: str


Action = LaunchGuest | StopGuest | RestartGuest | ReportStatus | RunHubServer | StopHubServer
