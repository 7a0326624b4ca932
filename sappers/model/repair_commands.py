"""Commands about repairs; `model.commands` has all others, and what they are proposed in."""

from __future__ import annotations

import msgspec

from sappers.model.allocation import Allocation
from sappers.model.repair import Finding, RepairKey, RepairLogin, RepairStatus
from sappers.model.suspicion import SuspicionSource


class PutRepairKey(msgspec.Struct, frozen=True, tag="put-repair-key"):
    """Bootstrap gives the healers' authority, and how they log in to these members' hosts."""

    key: RepairKey
    logins: tuple[RepairLogin, ...]


class OpenRepair(msgspec.Struct, frozen=True, tag="open-repair"):
    """The leader wants a member repaired. Refused while a repair of it is open."""

    repair_id: str
    member_id: str
    reason: str
    sources: tuple[SuspicionSource, ...] = ()


class AssignHealer(msgspec.Struct, frozen=True, tag="assign-healer"):
    """The leader places the healer of a repair's next attempt."""

    repair_id: str
    attempt: int
    allocation: Allocation
    reason: str
    claim_deadline: float


class ClaimRepair(msgspec.Struct, frozen=True, tag="claim-repair"):
    """The attempt's healer takes its credential: once, and in time.

    Attributes:
        public_key: What the credential is of; empty in proposals of versions that kept none.
    """

    repair_id: str
    attempt: int
    allocation_id: str
    deadline: float
    public_key: str = ""


class ReportRepairStep(msgspec.Struct, frozen=True, tag="report-repair-step"):
    """The healer did something, or ends. Steps are numbered from 1."""

    repair_id: str
    attempt: int
    allocation_id: str
    number: int
    text: str
    finding: Finding | None = None


class CountRefusedRepair(msgspec.Struct, frozen=True, tag="count-refused-repair"):
    """Somebody used a healer's credential in a way that it is not for."""

    repair_id: str
    allocation_id: str
    reason: str
    count: int


class FailAttempt(msgspec.Struct, frozen=True, tag="fail-attempt"):
    """The attempt has come to nothing; the next one may begin at `retry_at`."""

    repair_id: str
    attempt: int
    reason: str
    retry_at: float


class CloseRepair(msgspec.Struct, frozen=True, tag="close-repair"):
    """The repair is over, with a terminal status."""

    repair_id: str
    status: RepairStatus
    text: str


RepairCommand = (
    PutRepairKey
    | OpenRepair
    | AssignHealer
    | ClaimRepair
    | ReportRepairStep
    | CountRefusedRepair
    | FailAttempt
    | CloseRepair
)
