"""An allocation: one copy of a workload placed on one member."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from sappers.model.workload import ImageReference, Role


class AllocationStatus(StrEnum):
    """The last committed reading of an allocation."""

    PENDING = "pending"  # placed; its member has not acted yet
    STARTING = "starting"  # launched; no health push yet
    HEALTHY = "healthy"  # the guest pushes and says that it is well
    UNHEALTHY = "unhealthy"  # pushes stopped, or say that it is not well
    FAILED = "failed"  # ended badly and is not restarted on this member
    LOST = "lost"  # its member is gone
    STOPPED = "stopped"  # ended because it should

    @property
    def is_terminal(self) -> bool:
        """Whether nothing runs any more and nothing will."""
        return self in (AllocationStatus.FAILED, AllocationStatus.LOST, AllocationStatus.STOPPED)


class Allocation(msgspec.Struct, frozen=True):
    """One copy of a workload on one member: what is desired and what was last observed.

    Attributes:
        id: Unique for ever; `<workload>-<8 hex digits>`.
        revision: The workload's revision it was placed for.
        member_id: Where it runs.
        host_port: Port on the member that leads to `guest_port`, or None.
        private: That port is of the member's loopback, for the guest's mesh proxy alone.
        wanted: False once it should stop.
        placed_term: Term of the leader that placed it; an older one is refused.
        status: Last committed reading.
        reason: Why it has that status, a sentence for a person.
        restarts: Restarts on this member so far.
        cold: It boots from the beginning, never from a template.
        changed_at: Unix time in seconds of the last change of status.
        role: The workload's: what its credentials of the hub allow.
        lease_seconds: Its guest ends when its member has not heard of the quorum for so long; 0 for
            one that is not exclusive.
        fenced: The host that it was lost with was seen to be without power.
        replaces: The allocation that failed, was lost or leaves, whose place it takes; empty for
            one that is new.
        repair: The repair that a healer's allocation belongs to; empty for any other workload's.
    """

    id: str
    workload: str
    revision: int
    image: ImageReference
    memory_mib: int
    member_id: str
    placed_term: int
    guest_port: int | None = None
    host_port: int | None = None
    wanted: bool = True
    status: AllocationStatus = AllocationStatus.PENDING
    reason: str = ""
    restarts: int = 0
    changed_at: float = 0.0
    cold: bool = False
    role: Role = "application"
    repair: str = ""
    lease_seconds: float = 0.0
    fenced: bool = False
    replaces: str = ""
    private: bool = False

    @property
    def public_port(self) -> int | None:
        """The port at which whoever reaches the member reaches the guest; None where none is."""
        return None if self.private else self.host_port

    @property
    def is_exclusive(self) -> bool:
        """Whether another copy may start only when it is certain that this one has ended."""
        return self.lease_seconds > 0
