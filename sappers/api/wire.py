"""What goes over the HTTP API: one struct a request, a query, a path and an answer.

The model's own structs are answers as they stand; what a caller sends has structs of its own here,
with limits, that forbid fields they do not know.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sappers.model.allocation import Allocation
from sappers.model.backup import PIECE_BYTES, PIECES_MAX
from sappers.model.event import Event, EventFilter
from sappers.model.image import ClusterImage, ImageKey
from sappers.model.limits import (
    END,
    AllocationId,
    AllowedEvent,
    Count,
    Digest,
    ImageName,
    Index,
    Links,
    MemberId,
    MemoryMib,
    Owner,
    Port,
    ServiceName,
    WorkloadName,
)
from sappers.model.member import Member
from sappers.model.repair import Number, RepairLogin
from sappers.model.workload import ImageReference, Workload, role_of
from sappers.ports import LogLevel

RequestId = Annotated[str, Meta(pattern=r"^[!-~]{1,128}" + END)]

LOG_TAIL_BYTES_MAX = 1024 * 1024
NEWS_WAIT_SECONDS_MAX = 30.0


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller sends; a misspelt field is an error, not a silent default."""


class NoInput(Input, frozen=True):
    """Nothing."""


class WorkloadPath(Input, frozen=True):
    """A workload by name."""

    name: WorkloadName


class AllocationPath(Input, frozen=True):
    """An allocation by id."""

    id: AllocationId


class MemberPath(Input, frozen=True):
    """A member by id."""

    id: MemberId


class ImagePath(Input, frozen=True):
    """An image by the SHA-256 of its manifest."""

    digest: Digest


class ChunkPath(Input, frozen=True):
    """A chunk by the SHA-256 of its content, uncompressed."""

    digest: Digest


class ImageKeyPath(Input, frozen=True):
    """A public key (Ed25519), 64 hex digits."""

    key: Digest


class ChunksQuery(Input, frozen=True):
    """When to answer.

    Attributes:
        seen: How many chunks of the image the caller knows this member to have. With `wait_seconds`
            the answer waits until it is another number.
        wait_seconds: But not longer than this.
    """

    seen: Annotated[int, Meta(ge=0, le=2**31)] = 0
    wait_seconds: Annotated[float, Meta(ge=0, le=NEWS_WAIT_SECONDS_MAX)] = 0.0


class WantedImageKey(Input, frozen=True):
    """Whose key it is, for people."""

    owner: Owner


class WantedRepairKey(Input, frozen=True):
    """What healers log in with, and to which hosts; `sealed` is the encrypted private key.

    That key has signed each login, and (`signature`) whose images healers may be. Numbers rise from
    statement to statement: an earlier one is refused.
    """

    public: Annotated[str, Meta(max_length=200, pattern=r"^ssh-ed25519 [A-Za-z0-9+/=]+" + END)]
    sealed: Annotated[bytes, Meta(max_length=4096)]
    logins: Annotated[tuple[RepairLogin, ...], Meta(max_length=1000)]
    image_keys: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    signature: Annotated[str, Meta(max_length=128)] = ""
    number: Number = 0


class RepairAccess(msgspec.Struct, frozen=True):
    """What healers log in with; `public` is empty while the cluster has no key."""

    index: int
    public: str
    logins: tuple[RepairLogin, ...]
    image_keys: tuple[str, ...] = ()
    number: int = 0


class StateQuery(Input, frozen=True):
    """How new the state must be: this member's own, or as new as this call (`linearizable`).

    Attributes:
        max_age: Refuse a local reading that may be older than so many seconds.
    """

    consistency: Literal["local", "linearizable"] = "local"
    max_age: Annotated[float, Meta(ge=0)] | None = None


class BackupQuery(Input, frozen=True):
    """As new as this call, which takes a quorum; or this member's own state, as it is (`local`)."""

    consistency: Literal["local", "linearizable"] = "linearizable"


class EventsQuery(Input, frozen=True):
    """Which events: the newest that match, or with `after`, `first` or `since` the oldest that do.

    Attributes:
        after: Those of entries after this log index; of those in the state.
        first: Those of this number and above.
        since: Those of this Unix time and later.
        subject: About this member, workload with its allocations, allocation, …
        kind: Such as `member.dead`, or `member` for all of them.
    """

    after: Index | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    first: Index = 0
    since: Annotated[float, Meta(ge=0, le=2**40)] = 0.0
    subject: Annotated[str, Meta(max_length=128)] = ""
    kind: Annotated[str, Meta(max_length=64)] = ""

    def filter(self) -> EventFilter:
        """What to look for in the record."""
        return EventFilter(self.first, self.since, self.subject, self.kind)


class LogQuery(Input, frozen=True):
    """How much of a guest's output."""

    tail_bytes: Annotated[int, Meta(ge=1, le=LOG_TAIL_BYTES_MAX)] = 64 * 1024


class ExplainPath(Input, frozen=True):
    """A workload, member (name or id), allocation or repair."""

    name: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[!-~]+" + END)]


class OlderEvents(Input, frozen=True):
    """Events from before a member's record, oldest first."""

    events: Annotated[tuple[AllowedEvent, ...], Meta(max_length=1000)]


class RestorePath(Input, frozen=True):
    """A backup by the SHA-256 of its pieces together."""

    digest: Digest


class WantedRestore(Input, frozen=True):
    """One piece of a backup; see `RestorePiece`."""

    number: Annotated[int, Meta(ge=0, lt=PIECES_MAX)]
    count: Annotated[int, Meta(ge=1, le=PIECES_MAX)]
    content: Annotated[bytes, Meta(min_length=1, max_length=PIECE_BYTES)]
    replace: bool = False


class EntriesQuery(Input, frozen=True):
    """Which committed entries."""

    after: Index
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class WantedImage(Input, frozen=True):
    """An image by name and by content."""

    name: ImageName
    digest: Digest


class WantedWorkload(Input, frozen=True):
    """What a workload should be.

    Attributes:
        memory_mib: Memory of each guest.
        guest_port: Port the application listens on inside the guest.
        host_port: Port to publish it at on the member; the same number when not given.
        count: How many allocations.
        cold: Each guest boots from the beginning, never from a template.
        service: Name in Consul and at the gateway; the workload's own when not given.
        links: Services that it may call.
        exclusive: Never more than `count` guests at once, whatever fails.
        private: Only workloads that are linked to it reach its port.
    """

    image: WantedImage
    memory_mib: MemoryMib = 128
    guest_port: Port | None = None
    host_port: Port | None = None
    count: Count = 1
    cold: bool = False
    service: ServiceName | None = None
    links: Links = ()
    exclusive: bool = False
    private: bool = False

    def named(self, name: str) -> Workload:
        """The workload as it is proposed."""
        return Workload(
            name=name,
            image=ImageReference(self.image.name, self.image.digest),
            memory_mib=self.memory_mib,
            guest_port=self.guest_port,
            host_port=self.host_port,
            count=self.count,
            cold=self.cold,
            service=self.service or "",
            links=tuple(sorted(set(self.links))),
            exclusive=self.exclusive,
            private=self.private,
            role=role_of(name, self.image.name),
        )


class WantedCordon(Input, frozen=True):
    """How a member is closed.

    Attributes:
        drain: What is on it moves away, too.
    """

    drain: bool = False


class Members(msgspec.Struct, frozen=True):
    """Everyone gossip knows, as the answering member sees it."""

    members: tuple[Member, ...]


class Workloads(msgspec.Struct, frozen=True):
    """All workloads, as of log index `index`.

    Attributes:
        age_seconds: How old this may be; None where the member does not know.
    """

    index: int
    workloads: tuple[Workload, ...]
    age_seconds: float | None = None


class Allocations(msgspec.Struct, frozen=True):
    """All allocations, as of log index `index`.

    Attributes:
        age_seconds: How old this may be; None where the member does not know.
    """

    index: int
    allocations: tuple[Allocation, ...]
    age_seconds: float | None = None


class Events(msgspec.Struct, frozen=True):
    """Events, oldest first, as of log index `index`."""

    index: int
    events: tuple[Event, ...]


class EventsFrom(msgspec.Struct, frozen=True):
    """Number of the event from which on nothing is missing on the answering member."""

    first: int


class HeldImage(msgspec.Struct, frozen=True):
    """An image that the cluster keeps, and how much of it the answering member has.

    Attributes:
        chunks: How many chunks it is made of, 0 while this member does not know.
        chunks_here: How many of them this member has.
        reason: Why it is not whole here, or empty.
    """

    image: ClusterImage
    chunks: int
    chunks_here: int
    reason: str = ""


class Images(msgspec.Struct, frozen=True):
    """All images of the cluster, as of log index `index`."""

    index: int
    images: tuple[HeldImage, ...]


class Warmed(msgspec.Struct, frozen=True):
    """A member's template of an image is ready.

    Attributes:
        text: What was done, or why nothing had to be, one sentence.
    """

    text: str


class ImageKeys(msgspec.Struct, frozen=True):
    """Whose images the cluster runs, as of log index `index`."""

    index: int
    keys: tuple[ImageKey, ...]


class Written(msgspec.Struct, frozen=True):
    """A write is committed and applied."""

    index: int
    term: int


class WantedLogLevel(Input, frozen=True):
    """What a member's agent is to log: this level and above."""

    level: LogLevel


class SnapshotTaken(msgspec.Struct, frozen=True):
    """The answering member has written its state to disk, up to log index `index`."""

    index: int


class Problem(msgspec.Struct, frozen=True):
    """Why a call failed.

    Attributes:
        error: What happened, one sentence.
        hint: What to do about it, or null.
        status: The HTTP status.
        cause: Name of the error's class, such as `NoQuorum`.
    """

    error: str
    hint: str | None
    status: int
    cause: str
