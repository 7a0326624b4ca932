"""A step of the state machine: the next state, and what happened on the way to it."""

from __future__ import annotations

import msgspec

from sappers.model.cluster_state import ClusterState


class Happened(msgspec.Struct, frozen=True):
    """An event before it is stamped and chained.

    Attributes:
        follows: Things such as `member/m1`: it follows from the newest event about the first of
            them that there was one about. Empty: from nothing in the log. None: from the newest
            event about its own subject.
        also: Other things that it is the newest event about, such as `state/m1`: what gossip says
            of a member, apart from all else that happens to it.
    """

    kind: str
    subject: str
    text: str
    follows: tuple[str, ...] | None = None
    also: tuple[str, ...] = ()


Step = tuple[ClusterState, tuple[Happened, ...]]
