"""A backup: the management state at one log index, and what happened up to it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from sappers.model.image import SignedManifest
from sappers.model.limits import (
    AllowedEvent,
    AllowedImage,
    AllowedImageKey,
    AllowedWorkload,
    Digest,
    Index,
    MemberId,
    WorkloadName,
)

BACKUP_FORMAT = 2
PIECE_BYTES = 128 * 1024
PIECES_MAX = 256
PIECE_WITHIN_SECONDS = 3600.0  # of the one before; then the backup is given up
RESTORED_BYTES_MAX = 32 << 20  # of a state, unpacked: each voter unpacks it, at every replay

_Things = Meta(max_length=10_000)


class TakenState(msgspec.Struct, frozen=True):
    """A member's answer to who takes a backup.

    Attributes:
        index: Log index; everything acknowledged before the call is in the state, but where the
            member was asked for what it has without a quorum.
        state: `encode_state` of the state without what is secret or of the moment.
        manifests: Of the images that the state names, as far as the member has them.
    """

    index: int
    state: bytes
    manifests: tuple[SignedManifest, ...]


class Backup(msgspec.Struct, frozen=True):
    """What is in a backup's file, before the events.

    Attributes:
        taken_at: Unix time in seconds.
        cluster: The cluster's name, for people.
    """

    format: int
    taken_at: float
    cluster: str
    taken: TakenState


class Restoring(msgspec.Struct, frozen=True):
    """Pieces of a backup that have come so far.

    Attributes:
        digest: SHA-256 of all of them together, hex.
        pieces: In their order; empty where one has not come.
        time: Unix time in seconds, of the newest.
    """

    digest: str
    pieces: tuple[bytes, ...]
    time: float = 0.0


class Restorable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a backup's state another cluster takes over; the rest is of hosts that are gone.

    The limits hold before anything is allocated: whatever a file brings, voters stay small.
    """

    cluster_id: Annotated[str, Meta(max_length=128)]
    index: Index
    workloads: Annotated[dict[WorkloadName, AllowedWorkload], _Things]
    images: Annotated[dict[Digest, AllowedImage], _Things]
    image_keys: Annotated[tuple[AllowedImageKey, ...], Meta(max_length=1000)]
    stopped_by_hand: Annotated[tuple[WorkloadName, ...], _Things]
    revoked: Annotated[dict[MemberId, float], Meta(max_length=100_000)]
    events: Annotated[tuple[AllowedEvent, ...], Meta(max_length=1000)]
    event_count: Index
    event_head: Annotated[str, Meta(max_length=64)]
    newest_events: Annotated[dict[str, Index], Meta(max_length=100_000)]

    def __post_init__(self) -> None:
        """Raises ValueError where something stands under another's name."""
        for name, workload in self.workloads.items():
            if workload.name != name:
                raise ValueError(f"workload {workload.name} stands under {name}")
        for digest, image in self.images.items():
            if image.digest != digest:
                raise ValueError(f"image {image.name} stands under {digest}")
