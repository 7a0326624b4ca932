"""Runs of the chain of events: what lies between them, and what proves where they lead. Pure.

Invariant: an event's digest is in the event after it. So what leads, link by link, to an event that
is believed is believed as well, whoever tells it. What lies before a gap is proven by nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from sappers.model.cluster_state import ClusterState
from sappers.model.event import BrokenLink, Event, event_digest


class Gap(msgspec.Struct, frozen=True):
    """Events that are missing before one that is there.

    Attributes:
        first, last: Their numbers.
        digest: What the last of them must have: the event after it says so.
        before: Digest of the event before the first; None where there is none.
    """

    first: int
    last: int
    digest: str
    before: str | None = None


def gaps_between(runs: Iterable[tuple[Event, Event]]) -> list[Gap]:
    """What is missing from 1 up to the newest, the newest gap first.

    Args:
        runs: First and last event of each run without a gap, oldest first.
    """
    gaps: list[Gap] = []
    below: Event | None = None
    for first, last in runs:
        number = below.number if below is not None else 0
        if first.number > number + 1:
            digest = event_digest(below) if below is not None else None
            gaps.append(Gap(number + 1, first.number - 1, first.previous, digest))
        below = last
    return gaps[::-1]


def leading_to(events: Sequence[Event], digest: str) -> tuple[Event, ...]:
    """Of events, oldest first, the newest ones: those that lead to the digest without a gap."""
    start = len(events)
    while start and event_digest(events[start - 1]) == digest:
        start -= 1
        digest = events[start].previous
    return tuple(events[start:])


def broken_in(events: Iterable[Event], state: ClusterState) -> BrokenLink | None:
    """Where events are not the chain that a state's head stands for; a gap is no such place."""
    before: Event | None = None
    for event in events:
        if before is not None and (broken := broken_between(before, event)):
            return broken
        before = event
    return broken_end(before, state)


def broken_between(before: Event, event: Event) -> BrokenLink | None:
    """What is wrong with an event that comes after another one; a gap is not."""
    if before.number and event.number > before.number + 1:
        return None  # what lies between is missing, and nothing can be said
    if event.number in (before.number + 1, 0) and event.previous == event_digest(before):
        return None
    return BrokenLink(before.number, "the record", f"event {event.number} does not follow")


def broken_end(last: Event | None, state: ClusterState) -> BrokenLink | None:
    """What is wrong with the newest of all events."""
    head = event_digest(last) if last is not None else ""
    if not state.event_head or head == state.event_head:
        return None
    number = last.number if last is not None else 0
    return BrokenLink(number, "the record", "it does not lead to the state's newest event")
