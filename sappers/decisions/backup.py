"""What of the state goes into a backup, and what of a backup into another cluster. Pure.

No secret leaves the cluster: the healers' authority stays where it is (encrypted in the state, and
with the control machine, which gives it to a restored cluster as to any).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any

import immutables
import msgspec

from sappers.errors import CommandRefused
from sappers.model.backup import PIECE_BYTES, PIECES_MAX, RESTORED_BYTES_MAX, Restorable
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import RestorePiece
from sappers.model.event_tail import EventTail


def portable(state: ClusterState) -> ClusterState:
    """The state as a backup has it: without keys, and without what only retries need."""
    return msgspec.structs.replace(
        state,
        repair_key=None,
        repair_logins=immutables.Map(),
        hub_keys=immutables.Map(),
        hub_seed_ends=None,
        requests=immutables.Map(),
        older_requests=immutables.Map(),
        restoring=None,
    )


def in_pieces(state: ClusterState, *, replace: bool) -> list[RestorePiece]:
    """The commands that give a backup's state to a cluster; the same ones each time.

    Raises:
        CommandRefused: No cluster would take it.
    """
    taken = {name: _plain(getattr(state, name)) for name in Restorable.__struct_fields__}
    packed = zlib.compress(msgspec.msgpack.encode(taken, order="deterministic"), 9)
    digest = hashlib.sha256(packed).hexdigest()
    parts = [packed[at : at + PIECE_BYTES] for at in range(0, len(packed), PIECE_BYTES)]
    unpacked(parts, digest)
    return [
        RestorePiece(digest, number, len(parts), part, replace=replace)
        for number, part in enumerate(parts)
    ]


def _plain(value: Any) -> Any:
    match value:
        case immutables.Map():
            return dict(value)
        case EventTail():
            return tuple(value)
    return value


def with_piece(state: ClusterState, command: RestorePiece) -> tuple[bytes, ...]:
    """All pieces of a backup that have come; empty where one has not.

    Raises:
        CommandRefused: The piece is none of that backup.
    """
    inside = 0 <= command.number < command.count <= PIECES_MAX
    if not inside or not 0 < len(command.content) <= PIECE_BYTES:
        raise CommandRefused(f"piece {command.number} of {command.count} is none of a backup")
    restoring = state.restoring
    known = restoring is not None and restoring.digest == command.digest
    pieces = list(restoring.pieces) if restoring and known else [b""] * command.count
    if len(pieces) != command.count:
        raise CommandRefused(f"this backup has {len(pieces)} pieces, not {command.count}")
    pieces[command.number] = command.content
    return tuple(pieces)


def unpacked(pieces: Sequence[bytes], digest: str) -> Restorable:
    """What whole pieces say. It never takes more than `RESTORED_BYTES_MAX` to unpack them.

    Raises:
        CommandRefused: They are no backup, or one with what an operator could not ask for.
    """
    whole = b"".join(pieces)
    if len(pieces) > PIECES_MAX or len(whole) > PIECES_MAX * PIECE_BYTES:
        raise CommandRefused("the backup is too large")
    if hashlib.sha256(whole).hexdigest() != digest:
        raise CommandRefused("the backup's pieces do not match its digest")
    try:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(whole, RESTORED_BYTES_MAX)
        if not unpacker.eof:
            raise CommandRefused("the backup is cut short, or too large")
        return msgspec.msgpack.decode(packed, type=Restorable)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandRefused(f"the backup holds no state to restore: {error}") from error
