"""Commands: what may be proposed to the replicated log. All are idempotent and conditional.

What is new here, a field too, is of a new format: see `log_format.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from sappers.model.alert import Alert
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.hub import HUB_STATEMENT_BYTES_MAX
from sappers.model.image import ClusterImage, ImageKey
from sappers.model.member import Member, MemberState
from sappers.model.repair_commands import RepairCommand
from sappers.model.suspicion import SuspicionSource
from sappers.model.workload import Workload


class FoundCluster(msgspec.Struct, frozen=True, tag="found-cluster"):
    """The first command of a cluster: its id, its voters, whose images run. Refused once done."""

    cluster_id: str
    electorate: tuple[str, ...]
    image_keys: tuple[ImageKey, ...] = ()


class AddVoter(msgspec.Struct, frozen=True, tag="add-voter"):
    """The member has a Raft vote from now on. Proposed by `ReplicatedLog.add_voter` alone.

    Attributes:
        address: Where its Raft listens, `ip:port`; gossip knows better once it moves.
    """

    member_id: str
    address: str


class RemoveVoter(msgspec.Struct, frozen=True, tag="remove-voter"):
    """The member has a Raft vote no more. Proposed by `ReplicatedLog.remove_voter` alone."""

    member_id: str


class RegisterMember(msgspec.Struct, frozen=True, tag="register-member"):
    """A member is known, or something about it changed."""

    member: Member


class SetMemberState(msgspec.Struct, frozen=True, tag="set-member-state"):
    """Gossip says something new of a member."""

    member_id: str
    state: MemberState
    reason: str


class PutWorkload(msgspec.Struct, frozen=True, tag="put-workload"):
    """The operator wants this run."""

    workload: Workload


class PutSystemWorkload(msgspec.Struct, frozen=True, tag="put-system-workload"):
    """The leader wants this run for the cluster itself. Refused where an operator stopped it."""

    workload: Workload


class StopWorkload(msgspec.Struct, frozen=True, tag="stop-workload"):
    """The operator wants it run no more."""

    name: str


class PlaceAllocation(msgspec.Struct, frozen=True, tag="place-allocation"):
    """The leader puts one copy of a workload on a member.

    Attributes:
        ended: Of an exclusive workload: its allocations that ended badly and whose guests have
            surely ended by the leader's clock. None in entries from before there was this.
    """

    allocation: Allocation
    reason: str
    ended: tuple[str, ...] | None = None


class StopAllocation(msgspec.Struct, frozen=True, tag="stop-allocation"):
    """The leader wants one allocation ended."""

    allocation_id: str
    reason: str


class ReportAllocation(msgspec.Struct, frozen=True, tag="report-allocation"):
    """A member, or the leader for a lost one, says how an allocation is."""

    allocation_id: str
    status: AllocationStatus
    reason: str
    restarts: int = 0


class ForgetAllocation(msgspec.Struct, frozen=True, tag="forget-allocation"):
    """A terminal allocation is old enough to be dropped from the state."""

    allocation_id: str


class SetSuspicion(msgspec.Struct, frozen=True, tag="set-suspicion"):
    """What speaks against a member now, by the leader's readings; nothing: it is trusted again."""

    member_id: str
    sources: tuple[SuspicionSource, ...]
    reason: str


class SetHub(msgspec.Struct, frozen=True, tag="set-hub"):
    """The leader names the members that run the hub."""

    servers: tuple[str, ...]


class PutImage(msgspec.Struct, frozen=True, tag="put-image"):
    """The operator wants the members to keep this image."""

    image: ClusterImage


class RemoveImage(msgspec.Struct, frozen=True, tag="remove-image"):
    """The operator wants this image kept no more. Refused while something runs it."""

    digest: str


class TrustImageKey(msgspec.Struct, frozen=True, tag="trust-image-key"):
    """Images that this key signed may be launched from now on."""

    key: ImageKey


class DistrustImageKey(msgspec.Struct, frozen=True, tag="distrust-image-key"):
    """What this key alone signed is launched no more. The last key cannot go."""

    key: str


class RaiseAlert(msgspec.Struct, frozen=True, tag="raise-alert"):
    """The monitor says that something is wrong. Refused unless `allocation_id` is the monitor."""

    allocation_id: str
    alert: Alert


class ClearAlert(msgspec.Struct, frozen=True, tag="clear-alert"):
    """It is right again, by the monitor's word; empty: there is no monitor any more."""

    allocation_id: str
    kind: str
    subject: str


class CordonMember(msgspec.Struct, frozen=True, tag="cordon-member"):
    """The operator wants nothing new on a member; with `drain`, nothing at all."""

    member_id: str
    drain: bool


class RevokeMember(msgspec.Struct, frozen=True, tag="revoke-member"):
    """The member's certificate is worth nothing any more; it is drained, too. Never undone."""

    member_id: str


class PutHubKey(msgspec.Struct, frozen=True, tag="put-hub-key"):
    """A member says which key signs the hub's users that it admits: see `model.hub.HubKey`.

    Attributes:
        statement: Signed with its certificate (`model.signed.Signed`); hub servers' members check.
    """

    member_id: str
    statement: Annotated[bytes, msgspec.Meta(max_length=HUB_STATEMENT_BYTES_MAX)]


class UncordonMember(msgspec.Struct, frozen=True, tag="uncordon-member"):
    """The member may be used again."""

    member_id: str


class ForgetMember(msgspec.Struct, frozen=True, tag="forget-member"):
    """A member that is gone for good is dropped from the state. Refused while it has anything left.

    Attributes:
        gone_since: Its `state_since` of the end that was seen; None: of whichever.
    """

    member_id: str
    gone_since: float | None = None


class AnnounceElectorate(msgspec.Struct, frozen=True, tag="announce-electorate"):
    """The leader is about to change the electorate, and says why. Changes nothing by itself.

    Attributes:
        verb: What becomes of the member: `joins`, `leaves` or `leads`.
    """

    member_id: str
    verb: Literal["joins", "leaves", "leads"]
    reason: str


class ReportFencing(msgspec.Struct, frozen=True, tag="report-fencing"):
    """The leader has tried to cut a dead member's host off from power.

    Attributes:
        done: It is off: nothing that was lost with it runs any more.
        text: What the command said, one sentence.
        dead_since: The member's `state_since` of the death that it was about. None in entries from
            before there was this.
    """

    member_id: str
    done: bool
    text: str
    dead_since: float | None = None


class RestorePiece(msgspec.Struct, frozen=True, tag="restore-piece"):
    """One piece of a backup's state. With the last that lacks, the cluster becomes what it says.

    Attributes:
        digest: SHA-256 of all pieces together, hex: zlib, of `encode_state`.
        number: Counted from 0.
        count: How many there are.
        replace: Even where the cluster has workloads already.
    """

    digest: str
    number: int
    count: int
    content: bytes
    replace: bool = False


class AdoptFormat(msgspec.Struct, frozen=True, tag="adopt-format"):
    """All members know this format of the log: what is of it may be proposed from now on.

    Who does not know the format applies nothing more. Needs none itself: the leader has asked all.
    """

    format: int


class NoOperation(msgspec.Struct, frozen=True, tag="no-operation"):
    """Changes nothing; a linearizable read waits for it."""


AlertCommand = RaiseAlert | ClearAlert
MemberCommand = (
    CordonMember
    | UncordonMember
    | RevokeMember
    | ForgetMember
    | AnnounceElectorate
    | ReportFencing
    | PutHubKey
)
ImageCommand = PutImage | RemoveImage | TrustImageKey | DistrustImageKey
ClusterCommand = (
    FoundCluster
    | RegisterMember
    | SetMemberState
    | PutWorkload
    | PutSystemWorkload
    | StopWorkload
    | PlaceAllocation
    | StopAllocation
    | ReportAllocation
    | ForgetAllocation
    | SetHub
    | AdoptFormat
    | NoOperation
)
ElectorateCommand = AddVoter | RemoveVoter
Command = (
    ClusterCommand
    | ElectorateCommand
    | ImageCommand
    | AlertCommand
    | RepairCommand
    | SetSuspicion
    | MemberCommand
    | RestorePiece
)


class Proposal(msgspec.Struct, frozen=True):
    """One log entry's payload: commands that take effect together, in order.

    Attributes:
        request_id: Unique per intent; a proposal that is applied already is not applied again.
        proposer: Id of the member that brings it to the log.
        by: Who wants it: `operator/NAME` or `member/ID`, as the member that took it in read in that
            one's certificate. Empty in entries of versions that did not say.
        time: Unix time in seconds, stamped by the proposer.
        commands: What to do.
        leader_term: For what a leader decides: the term it decided in. The entry is refused if it
            commits in another term. None for what operators and members ask.
        format: That the log must have for it; said as it is encoded. Where the log has not, all
            members refuse it, those too that do not know what it would do.
    """

    request_id: str
    proposer: str
    time: float
    commands: tuple[Command, ...]
    leader_term: int | None = None
    by: str = ""
    format: int = 0


class Entry(msgspec.Struct, frozen=True):
    """A committed log entry. `payload` is an encoded `Proposal`."""

    index: int
    term: int
    payload: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Proposal)


def format_needed(commands: Iterable[Command]) -> int:
    """The format that the log must have for these commands."""
    needed = 0
    for one in commands:  # for each write and each entry: five times as fast as a generator
        if (since := getattr(one, "since_format", 0)) > needed:
            needed = since
    return needed


def format_adopted(commands: Iterable[Command]) -> int:
    """The format that these commands give the log; 0 where they give it none."""
    return max((one.format for one in commands if isinstance(one, AdoptFormat)), default=0)


def encode_proposal(proposal: Proposal) -> bytes:
    """The wire and disk form of a proposal (msgpack)."""
    if needed := format_needed(proposal.commands):
        proposal = msgspec.structs.replace(proposal, format=needed)
    return _encoder.encode(proposal)


def decode_proposal(payload: bytes) -> Proposal:
    """The reverse of `encode_proposal`.

    Raises:
        msgspec.DecodeError: The bytes are no proposal; also its subclass ValidationError.
    """
    return _decoder.decode(payload)
