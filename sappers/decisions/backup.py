"""What of the state goes into a backup, and what of a backup into another cluster. Pure.

No secret leaves the cluster: the healers' authority stays where it is (encrypted in the state, and
with the control machine, which gives it to a restored cluster as to any).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import immutables
import msgspec

from sappers.model.backup import PIECE_BYTES
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import encode_state
from sappers.model.commands import RestorePiece
from sappers.model.event import BrokenLink, Event, event_digest


def portable(state: ClusterState) -> ClusterState:
    """The state as a backup has it: without keys, and without what only retries need."""
    return msgspec.structs.replace(
        state,
        repair_key=None,
        repair_logins=immutables.Map(),
        requests=immutables.Map(),
        restoring=None,
    )


def restorable(state: ClusterState) -> ClusterState:
    """What of a backup's state another cluster takes over; the rest is of hosts that are gone."""
    return ClusterState(
        cluster_id=state.cluster_id,
        index=state.index,
        term=state.term,
        workloads=state.workloads,
        images=state.images,
        image_keys=state.image_keys,
        stopped_by_hand=state.stopped_by_hand,
        revoked=state.revoked,
        events=state.events,
        event_count=state.event_count,
        event_head=state.event_head,
        newest_events=state.newest_events,
    )


def in_pieces(state: ClusterState, *, replace: bool) -> list[RestorePiece]:
    """The commands that give a backup's state to a cluster; the same ones each time."""
    packed = zlib.compress(encode_state(restorable(state), ordered=True), 9)
    digest = hashlib.sha256(packed).hexdigest()
    parts = [packed[at : at + PIECE_BYTES] for at in range(0, len(packed), PIECE_BYTES)]
    return [
        RestorePiece(digest, number, len(parts), part, replace=replace)
        for number, part in enumerate(parts)
    ]


def broken_in(events: Sequence[Event], state: ClusterState) -> BrokenLink | None:
    """Where events are not the chain that a state's head stands for."""
    before: Event | None = None
    for event in events:
        if before is not None and (event.number, event.previous) != (
            before.number + 1,
            event_digest(before),
        ):
            return BrokenLink(before.number, "the record", f"event {event.number} does not follow")
        before = event
    head = event_digest(before) if before is not None else ""
    if state.event_head and head != state.event_head:
        number = before.number if before is not None else 0
        return BrokenLink(number, "the record", "it does not lead to the state's newest event")
    return None
