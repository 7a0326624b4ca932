"""Members' records of events side by side: who tells of another past, and from where on. Pure.

A digest stands for its event and for all before it. So two records that agree in one place agree in
all before it, and of two that do not, the first event that differs lies after the last agreement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sappers.model.event import Event, EventCheck, event_digest


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with a member's record.

    Attributes:
        member: Its name.
        number: Of the first event that is not as it was; 0 where that is not known.
        place: File and line there, or the replicated state.
    """

    member: str
    number: int
    place: str
    reason: str


class Dispute(msgspec.Struct, frozen=True):
    """Two members tell differently of some events; which one of them differs first is to be seen.

    Attributes:
        member: Who is in the minority.
        other: One of the others.
        first, last: The numbers to look at.
    """

    member: str
    other: str
    first: int
    last: int


def own_findings(checks: Mapping[str, EventCheck]) -> list[Finding]:
    """What members found wrong themselves."""
    return [
        Finding(name, check.broken.number, check.broken.place, check.broken.reason)
        for name, check in checks.items()
        if check.broken is not None
    ]


def find_disputes(checks: Mapping[str, EventCheck]) -> list[Dispute]:
    """Where records that are whole in themselves are not the same, one dispute a member."""
    whole = {name: check for name, check in checks.items() if check.broken is None}
    disputes: dict[str, Dispute] = {}
    agreed: dict[str, int] = {}
    for number in sorted({number for check in whole.values() for number in check.marks}):
        said = {
            name: check.marks[number]
            for name, check in whole.items()
            if number in check.marks and name not in disputes
        }
        right = _most(said.values())
        other = next((name for name, digest in said.items() if digest == right), "")
        for name, digest in said.items():
            if digest == right:
                agreed[name] = number
            else:
                disputes[name] = Dispute(name, other, agreed.get(name, 0) + 1, number)
    return list(disputes.values())


def find_edges(checks: Mapping[str, EventCheck]) -> list[Dispute]:
    """Events before a gap, which no event after them proves, and who has those after them, too."""
    return [
        Dispute(name, other, first - 1, first - 1)
        for name, check in checks.items()
        for first, _ in check.missing
        if (other := next((one for one, its in checks.items() if _goes_on(its, first)), ""))
    ]


def nowhere(checks: Mapping[str, EventCheck]) -> list[tuple[int, int]]:
    """Ranges of events, between the oldest and the newest on record, that no member has."""
    runs = sorted(run for check in checks.values() if check.last for run in _runs_of(check))
    found: list[tuple[int, int]] = []
    reached = runs[0][0] - 1 if runs else 0
    for first, last in runs:
        if first > reached + 1:
            found.append((reached + 1, first - 1))
        reached = max(reached, last)
    return found


def _runs_of(check: EventCheck) -> Iterable[tuple[int, int]]:
    start = check.first
    for first, last in check.missing:
        yield start, first - 1
        start = last + 1
    yield start, check.last


def _goes_on(check: EventCheck, number: int) -> bool:
    """Whether a record has an event and the one before it."""
    return (
        check.broken is None
        and check.first < number <= check.last
        and not any(first <= number <= last + 1 for first, last in check.missing)
    )


def first_difference(
    dispute: Dispute, mine: Sequence[Event], others: Sequence[Event]
) -> Finding | None:
    """The first event of a dispute that two records tell differently of, if there is one."""
    known = {event.number: event for event in others}
    for event in mine:
        other = known.get(event.number)
        if other is not None and event_digest(other) != event_digest(event):
            reason = f"{dispute.other} has another one: {other.text}"
            return Finding(dispute.member, event.number, "its files", reason)
    return None


def head_findings(checks: Mapping[str, EventCheck], newest: Sequence[Event]) -> list[Finding]:
    """Members whose newest events are not those that most have in their replicated state.

    Args:
        checks: By name of the member.
        newest: The newest events, as a member's state has them.
    """
    heads: dict[int, list[str]] = {}
    for check in checks.values():
        heads.setdefault(check.state_count, []).append(check.state_head)
    known = {event.number: event_digest(event) for event in newest if event.number}
    for count, said in heads.items():
        if len(said) * 2 > len(checks):
            known[count] = _most(said)
    found: list[Finding] = []
    for name, check in checks.items():
        if check.broken is not None:
            continue
        if known.get(check.state_count, check.state_head) != check.state_head:
            reason = "its newest event is not the one that the others have"
            found.append(Finding(name, check.state_count, "its replicated state", reason))
        elif known.get(check.last, check.head) != check.head:
            reason = "its newest event is not the one in the replicated state"
            found.append(Finding(name, check.last, "its files", reason))
    return found


def _most(values: Iterable[str]) -> str:
    """The value that most say; of several the one that was said first."""
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted else ""
