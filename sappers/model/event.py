"""An event: what a committed entry made happen, for people and for subscribers."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True):
    """What a committed entry made happen.

    Attributes:
        index: Raft log index of the entry.
        term: Raft term of the entry.
        time: Unix time in seconds, stamped by the proposer.
        kind: Dotted name such as `allocation.healthy`.
        subject: What it is about: a member id, workload name or allocation id.
        text: One sentence for a person.
        member_id: Who proposed it.
        previous: SHA-256 of the event before it, hex; the chain shows a changed past.
    """

    index: int
    term: int
    time: float
    kind: str
    subject: str
    text: str
    member_id: str
    previous: str
