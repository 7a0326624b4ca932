"""A repair: one member that died, and the cluster's attempts to bring it back."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from sappers.model.suspicion import SuspicionSource

HEALER = "healer"  # the workload of healers' allocations
HEALER_IMAGES = frozenset({"healer", "healer-nanos"})  # a micro-VM, a unikernel
CLOCKS_DIFFER_SECONDS = 5.0
NUMBERS_APART = 2**32  # at most, so that no single statement takes the numbers of all later ones

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class RepairStatus(StrEnum):
    """How far a repair is."""

    OPEN = "open"  # no healer works on it now; one will
    ASSIGNED = "assigned"  # a healer is placed; it has not asked for its credential yet
    CLAIMED = "claimed"  # the healer has its credential
    RESTORED = "restored"  # the member is alive again
    MOVED = "moved"  # the host cannot be reached; its allocations are placed elsewhere
    FAILED = "failed"  # given up: a person must look

    @property
    def is_terminal(self) -> bool:
        """Whether it is over."""
        return self in (RepairStatus.RESTORED, RepairStatus.MOVED, RepairStatus.FAILED)


class Finding(StrEnum):
    """What a healer says at its end."""

    RESTORED = "restored"  # the agent runs and stays up
    UNREACHABLE = "unreachable"  # no SSH connection can be had
    FAILED = "failed"  # it could not be repaired; another healer may have more luck
    HOPELESS = "hopeless"  # only a person can help


class Repair(msgspec.Struct, frozen=True):
    """One member's repair. Times are Unix seconds.

    Attributes:
        id: Unique for ever; `repair-<8 hex digits>`.
        member_id: Whom it is about.
        reason: Why it was opened; `sources`: who suspected the member then.
        attempt: Counted from 1; 0 before the first healer.
        allocation_id: The healer at work, or empty.
        deadline: When the attempt must have claimed its credential; then, when it must be done.
        credential_until: When the last credential that was given ends.
        retry_at: No further attempt before.
        steps: Highest number of a step that the attempt reported.
        finding: What the attempt said at its end, or None.
        trouble: Why the last attempt failed, or what was found; a sentence for a person.
        refused: Claims and steps that were refused.
        changed_at: When `status` or `finding` changed last.
        public_key: What the attempt's credential is of; empty without one, and where a version
            that kept none gave it.
    """

    id: str
    member_id: str
    reason: str
    opened_at: float
    attempt: int = 0
    allocation_id: str = ""
    status: RepairStatus = RepairStatus.OPEN
    claimed_at: float = 0.0
    deadline: float = 0.0
    credential_until: float = 0.0
    retry_at: float = 0.0
    steps: int = 0
    finding: Finding | None = None
    trouble: str = ""
    refused: int = 0
    changed_at: float = 0.0
    sources: tuple[SuspicionSource, ...] = ()
    public_key: str = ""

    def is_held_with(self, public_key: str, now: float) -> bool:
        """Whether the attempt's credential is of this key, and not over yet."""
        is_its_key = self.status is RepairStatus.CLAIMED and self.public_key == public_key != ""
        return is_its_key and now <= self.deadline


class RepairKey(msgspec.Struct, frozen=True):
    """The authority that signs healers' SSH certificates.

    Attributes:
        public: One line as in `authorized_keys`, without a comment: `ssh-ed25519 AAAA…`.
        sealed: The private key, encrypted with what each member keeps outside of the state;
            see `security.repair_authority`.
        image_keys: Healers' images must be signed by one of these.
        signature: The authority's, of `image_keys` and `number`; hex.
        number: Rises with each such statement; 0 in those of versions that gave none.
    """

    public: str
    sealed: bytes
    image_keys: tuple[str, ...] = ()
    signature: str = ""
    number: Number = 0

    def statement(self) -> bytes:
        """What `signature` is of."""
        if not self.number:
            return b"sappers healers' images v1\n" + msgspec.json.encode(self.image_keys)
        return b"sappers healers' images v2\n" + msgspec.json.encode((self.number, self.image_keys))


class RepairLogin(msgspec.Struct, frozen=True):
    """How a healer logs in to a member's host.

    Attributes:
        port: Of its sshd, at the member's address.
        user: Whose `authorized_keys` names the authority.
        become: Root's powers come by sudo.
        host_keys: Its public host keys, `ssh-ed25519 AAAA…` each, as bootstrap saw them.
        start: What starts an agent by hand, STATE_DIR last; empty where systemd does.
        signature: The authority's, of all else; hex. No healer is told a login without.
        number: As `RepairKey.number`, of this member's logins.
    """

    member_id: str
    port: int
    user: str
    become: bool
    host_keys: tuple[str, ...]
    start: tuple[str, ...] = ()
    signature: str = ""
    number: Number = 0

    def statement(self) -> bytes:
        """What `signature` is of."""
        unsigned = msgspec.structs.asdict(self) | {"signature": ""}
        if not self.number:
            del unsigned["number"]
            return b"sappers repair login v1\n" + msgspec.json.encode(unsigned)
        return b"sappers repair login v2\n" + msgspec.json.encode(unsigned)


class KnownAccess(msgspec.Struct, frozen=True):
    """What a cluster says of its repair key; `public` is empty where it has none."""

    public: str
    logins: tuple[RepairLogin, ...]
    image_keys: tuple[str, ...]
    number: int = 0


class Claim(msgspec.Struct, frozen=True):
    """A healer asks for its credential.

    Attributes:
        public_key: `ssh-ed25519 AAAA…`; the private key is in the guest's memory alone.
    """

    public_key: Annotated[str, msgspec.Meta(pattern=r"^ssh-ed25519 [A-Za-z0-9+/]{68}$(?!\n)")]


class ReportedStep(msgspec.Struct, frozen=True):
    """A healer says what it is about to do, or with a finding that it ends."""

    number: int
    text: str
    finding: Finding | None = None


class Credential(msgspec.Struct, frozen=True):
    """What a healer logs in with, once, and to what.

    Attributes:
        certificate: Of the claim's key, one line as OpenSSH has it; empty without a login.
        name: The member's, for people; `address` is its host's.
        api_port: Where its agent would answer.
        login: None where bootstrap gave the cluster no way in: then the healer only looks.
        seconds: How long the healer may work.
    """

    repair_id: str
    attempt: int
    certificate: str
    name: str
    address: str
    api_port: int
    login: RepairLogin | None
    seconds: float


class Answer(msgspec.Struct, frozen=True):
    """The leader's answer; one of its fields is set.

    Attributes:
        acknowledged: Number of the step that is committed.
        refused: Why a claim or step counts for nothing.
        idle: There is no repair for this guest to do.
    """

    credential: Credential | None = None
    acknowledged: int = 0
    refused: str = ""
    idle: bool = False
