"""Runs of a chain from several members: put together where they fit, refused where they do not."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.event_chain import broken_in, gaps_between, leading_to
from sappers.model.cluster_state import ClusterState
from sappers.model.event import Event, event_digest

COUNT = 30


def chain(count: int = COUNT) -> tuple[Event, ...]:
    made, head = [], ""
    for number in range(1, count + 1):
        made.append(Event(number, 1, 1.0, "a.b", "x", "text", "m1", head, number=number))
        head = event_digest(made[-1])
    return tuple(made)


CHAIN = chain()
HEAD = ClusterState(event_count=COUNT, event_head=event_digest(CHAIN[-1]))
PARTS = st.sets(st.integers(1, COUNT - 1))


def without(numbers: set[int]) -> tuple[Event, ...]:
    return tuple(event for event in CHAIN if event.number not in numbers)


@given(PARTS)
def test_what_is_missing_is_told_with_what_it_must_lead_to(missing: set[int]) -> None:
    events = without(missing)
    assert broken_in(events, HEAD) is None
    gaps = gaps_between((event, event) for event in events)
    assert {n for gap in gaps for n in range(gap.first, gap.last + 1)} == missing
    for gap in gaps:
        assert gap.digest == event_digest(CHAIN[gap.last - 1])
        assert gap.before == (event_digest(CHAIN[gap.first - 2]) if gap.first > 1 else None)


@given(PARTS, st.integers(1, COUNT - 1))
def test_a_changed_past_shows_unless_what_lies_after_it_is_missing(
    missing: set[int], number: int
) -> None:
    changed = msgspec.structs.replace(CHAIN[number - 1], text="nothing happened")
    events = [changed if event.number == number else event for event in without(missing - {number})]
    broken = broken_in(events, HEAD)
    if number + 1 in missing:
        assert broken is None
    else:
        assert broken is not None
        assert broken.number == number


def test_a_newest_event_that_lacks_or_stands_twice_is_no_chain() -> None:
    assert broken_in(CHAIN[:-1], HEAD) is not None
    assert broken_in((*CHAIN[:5], *CHAIN[3:]), HEAD) is not None
    assert broken_in((), HEAD) is not None
    assert broken_in((), ClusterState()) is None


@given(PARTS)
def test_only_what_leads_to_a_digest_is_believed(missing: set[int]) -> None:
    found = leading_to(without(missing), HEAD.event_head)
    assert found == CHAIN[max(missing, default=0) :]
    assert leading_to(without(missing), "0" * 64) == ()
