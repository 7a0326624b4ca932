"""A step of the state machine: the next state, and what happened on the way to it."""

from __future__ import annotations

import msgspec

from sappers.model.cluster_state import ClusterState


class Happened(msgspec.Struct, frozen=True):
    """An event before it is stamped and chained."""

    kind: str
    subject: str
    text: str


Step = tuple[ClusterState, tuple[Happened, ...]]
