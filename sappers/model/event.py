"""An event: what a committed entry made happen, for people and for subscribers.

Invariant: an event has one encoding, `event_line`, and its digest is the SHA-256 of just that. Each
event carries the digest of the one before it, so the digest of the newest stands for all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from sappers.model.known_types import UNREADABLE, learn

ALLOCATION_DIGITS = 8
MARK_EVERY = 256
RESTORED = "cluster.restored"


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a committed entry made happen.

    What has its default is not in the encoding: events of versions that knew neither number nor
    cause keep the digest that they had.

    Attributes:
        index: Raft log index of the entry.
        term: Raft term of the entry.
        time: Unix time in seconds, stamped by the proposer.
        kind: Dotted name such as `allocation.healthy`.
        subject: What it is about: a member id, workload name or allocation id.
        text: One sentence for a person.
        member_id: Who proposed it to the log.
        previous: Digest of the event before it, hex; empty for the first.
        number: Its place in the chain, from 1; 0 in events of versions that counted none.
        by: Who wanted it, by certificate: `operator/NAME`, or `member/ID` for an agent itself.
        cause: Number of the event that it follows from; 0 where somebody outside decided it.
    """

    index: int
    term: int
    time: float
    kind: str
    subject: str
    text: str
    member_id: str
    previous: str
    number: int = 0
    by: str = ""
    cause: int = 0

    @property
    def about(self) -> str:
        """The thing that it is about, `<sort>/<subject>`: `member/m1`, `allocation/web-1`, …"""
        return f"{self.kind.partition('.')[0]}/{self.subject}"


class EventFilter(msgspec.Struct, frozen=True):
    """Which events are asked for.

    Attributes:
        first: Those of this number and above; 0 for any.
        since: Those of this Unix time and later; 0 for any.
        subject: About this subject, or a workload's allocations; empty for any.
        kind: Of this kind, or with it as the first part; empty for any.
    """

    first: int = 0
    since: float = 0.0
    subject: str = ""
    kind: str = ""

    @property
    def from_somewhere(self) -> bool:
        """Whether the oldest are asked for first; else the newest are."""
        return bool(self.first or self.since)

    def matches(self, event: Event) -> bool:
        """Whether an event is asked for."""
        return (
            event.number >= self.first
            and event.time >= self.since
            and (not self.subject or is_about(event, self.subject))
            and (not self.kind or f"{event.kind}.".startswith(f"{self.kind}."))
        )


def is_about(event: Event, subject: str) -> bool:
    """Whether an event is about a subject, or about an allocation of a workload of that name."""
    if event.subject == subject:
        return True
    workload, _, digits = event.subject.rpartition("-")
    return workload == subject and len(digits) == ALLOCATION_DIGITS


def after_index(events: Sequence[Event], index: int) -> tuple[Event, ...]:
    """The newest events, down to those of a log index, which are not among them.

    A restored chain has indexes of another log before those of this one; where they begin, it ends.
    """
    last, start = 2**63, len(events)
    while start and index < events[start - 1].index <= last:
        start -= 1
        last = events[start].index
    return tuple(events[start:])


class BrokenLink(msgspec.Struct, frozen=True):
    """The first place where a member's record is not what was committed.

    Attributes:
        number: Of the first event that differs; 0 where not even that can be read.
        place: File and line, or the state.
    """

    number: int
    place: str
    reason: str


class EventCheck(msgspec.Struct, frozen=True):
    """What a member says of its own record of events.

    Attributes:
        first, last: Numbers of the oldest and newest event in its files; 0 without any.
        head: Digest of the event `last`.
        marks: Digests by number, every `MARK_EVERY` events: each stands for all before it.
        missing: Ranges of numbers between `first` and `last` that it never saw.
        set_aside: Files with another chain than the cluster's.
        state_count, state_head: The newest event in its replica of the state.
        broken: Where its record is wrong in itself, or other than its state.
    """

    member_id: str
    first: int
    last: int
    head: str
    marks: dict[int, str]
    missing: tuple[tuple[int, int], ...]
    set_aside: int
    state_count: int
    state_head: str
    broken: BrokenLink | None = None


class Story(msgspec.Struct, frozen=True):
    """The events that explain something, oldest first, and what led to them.

    Attributes:
        name: What was asked for.
        now: How it is now, one sentence for each thing of that name.
        index: Log index of the answering member's state.
        cut: Older events were left out.
    """

    name: str
    now: tuple[str, ...]
    index: int
    events: tuple[Event, ...]
    cut: bool = False


def event_line(event: Event) -> bytes:
    """The event's one encoding (JSON, one line, no newline at its end)."""
    return msgspec.json.encode(event)


def event_in(line: bytes) -> Event | None:
    """The event of an encoding; None where it is none."""
    try:
        return msgspec.json.decode(line, type=learn(Event))
    except UNREADABLE:
        return None


def line_digest(line: bytes) -> str:
    """The digest of an event's encoding, hex."""
    return hashlib.sha256(line).hexdigest()


def event_digest(event: Event) -> str:
    """The digest of an event, hex: the link of the chain."""
    return line_digest(event_line(event))
