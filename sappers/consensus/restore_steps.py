"""What the state machine does with a backup that is given back. Pure.

Invariant: it takes effect as a whole, with the piece that completes it, or not at all; on every
member at the same index. Members, votes, hub and keys of healers stay those of the cluster that it
is given to: hosts are new, and what ran is placed anew.
"""

from __future__ import annotations

import immutables
import msgspec

from sappers.consensus.image_steps import trusted
from sappers.consensus.step import Happened, Step
from sappers.decisions.backup import unpacked, with_piece
from sappers.errors import CommandRefused
from sappers.model.backup import PIECE_WITHIN_SECONDS, Restorable, Restoring
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import RestorePiece
from sappers.model.event import RESTORED, Event
from sappers.model.event_tail import EventTail
from sappers.model.image import ClusterImage, ImageKey
from sappers.model.workload import Workload

_KEPT_SORTS = ("workload/", "image/", "image-key/")


class _Taken(msgspec.Struct, frozen=True):
    """Of a backup what becomes of the state's own types."""

    workloads: dict[str, Workload]
    images: dict[str, ClusterImage]
    image_keys: tuple[ImageKey, ...]
    events: tuple[Event, ...]


def without_abandoned(state: ClusterState, time: float) -> ClusterState:
    """The state without a backup that came in part and was given up: it is in every snapshot.

    Args:
        state: What was before the proposal.
        time: The proposal's.
    """
    restoring = state.restoring
    if restoring is None or abs(time - restoring.time) <= PIECE_WITHIN_SECONDS:
        return state
    return msgspec.structs.replace(state, restoring=None)


def apply_restore_piece(state: ClusterState, command: RestorePiece, time: float) -> Step:
    """Keep a piece; with the last one, become what the backup says.

    Raises:
        CommandRefused: The cluster has workloads, or the pieces are no backup.
    """
    if command.digest == state.restored:
        return state, ()  # it was sent again
    _require_room(state, command)
    pieces = with_piece(state, command)
    if not all(pieces):
        return msgspec.structs.replace(state, restoring=Restoring(command.digest, pieces, time)), ()
    return _restore(state, unpacked(pieces, command.digest), command.digest)


def forget_restored(state: ClusterState) -> ClusterState:
    """The state once an operator wants something else than the backup: it is no more the backup's.

    Until then a run that was interrupted goes on; from then on the same backup is given back anew.
    """
    return msgspec.structs.replace(state, restored="") if state.restored else state


def _require_room(state: ClusterState, command: RestorePiece) -> None:
    if not state.cluster_id:
        raise CommandRefused("the cluster is not founded yet")
    used = sorted(name for name, one in state.workloads.items() if one.role == "application")
    if used and not command.replace:
        raise CommandRefused(f"the cluster is in use, it runs {', '.join(used[:5])}")


def _restore(state: ClusterState, old: Restorable, digest: str) -> Step:
    taken = msgspec.convert(msgspec.to_builtins(old), type=_Taken)
    keys = {one.key: one for one in (*taken.image_keys, *state.image_keys)}
    workloads = {
        name: msgspec.structs.replace(one, revision=state.index)
        for name, one in taken.workloads.items()
    }
    newest = {
        thing: number
        for thing, number in old.newest_events.items()
        if thing.startswith(_KEPT_SORTS)
    }
    restored = msgspec.structs.replace(
        state,
        workloads=immutables.Map(workloads),
        images=state.images.update(taken.images),
        image_keys=tuple(keys[key] for key in sorted(keys)),
        stopped_by_hand=old.stopped_by_hand,
        # All: the authority may be the same, and then certificates that were stolen still hold.
        revoked=immutables.Map(old.revoked).update(state.revoked),
        events=EventTail(taken.events),
        event_count=old.event_count,
        event_head=old.event_head,
        newest_events=immutables.Map(newest),
        restoring=None,
        restored=digest,
    )
    return restored, _told(state, old, taken)


def _told(state: ClusterState, old: Restorable, taken: _Taken) -> tuple[Happened, ...]:
    """What of it people must know: that it was, whose images run from now on, who is a member."""
    text = (
        f"cluster {old.cluster_id[:12]} is restored as it was at index {old.index}: "
        f"workloads {', '.join(sorted(taken.workloads)) or 'none'}; the events of this one before, "
        f"{state.event_count} up to {state.event_head[:12] or 'none'}, are no part of its chain"
    )
    # What is placed for these workloads now follows from the restore.
    wanted = tuple(f"workload/{name}" for name in sorted(taken.workloads))
    told = [Happened(RESTORED, state.cluster_id, text, follows=(), also=wanted)]
    known, cause = {one.key for one in state.image_keys}, f"cluster/{state.cluster_id}"
    told += [trusted(one, cause) for one in taken.image_keys if one.key not in known]
    for _, member in sorted(state.members.items()):
        words = f"{member.name} at {member.address} is a member of the restored cluster"
        told.append(Happened("member.joined", member.id, words, follows=(cause,)))
    return tuple(told)
