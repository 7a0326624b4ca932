"""A backup: the management state at one log index, and what happened up to it."""

from __future__ import annotations

import msgspec

from sappers.model.event import Event
from sappers.model.image import SignedManifest

BACKUP_FORMAT = 1
PIECE_BYTES = 128 * 1024
PIECES_MAX = 512
RESTORED_BYTES_MAX = 512 << 20  # of a state, unpacked


class TakenState(msgspec.Struct, frozen=True):
    """A member's answer to who takes a backup.

    Attributes:
        index: Log index; everything acknowledged before the call is in the state.
        state: `encode_state` of the state without what is secret or of the moment.
        manifests: Of the images that the state names, as far as the member has them.
    """

    index: int
    state: bytes
    manifests: tuple[SignedManifest, ...]


class Backup(msgspec.Struct, frozen=True):
    """What is in a backup's file.

    Attributes:
        taken_at: Unix time in seconds.
        cluster: The cluster's name, for people.
        events: All that the member had on record up to the index, oldest first.
    """

    format: int
    taken_at: float
    cluster: str
    taken: TakenState
    events: tuple[Event, ...]


class Restoring(msgspec.Struct, frozen=True):
    """Pieces of a backup that have come so far.

    Attributes:
        digest: SHA-256 of all of them together, hex.
        pieces: In their order; empty where one has not come.
    """

    digest: str
    pieces: tuple[bytes, ...]
