"""The newest events are a sequence like any other, however they came together."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state, encode_state, state_as_json
from sappers.model.event import Event
from sappers.model.event_tail import EventTail

_COUNTS = st.lists(st.integers(0, 70), max_size=30)


def _events(first: int, count: int) -> tuple[Event, ...]:
    return tuple(Event(n, 1, 0.0, "k", "s", "", "m", "", n) for n in range(first, first + count))


@given(_COUNTS, st.integers(1, 150), st.integers(-160, 160), st.integers(-160, 160))
def test_a_tail_is_what_a_tuple_would_be(counts: list[int], keep: int, low: int, high: int) -> None:
    tail, known = EventTail(), tuple[Event, ...]()
    for count in counts:
        more = _events(len(known) + 1, count)
        before, tail, known = tail, tail.appended(more, keep), known + more
        assert len(before) <= keep
        assert before == known[: len(known) - count][-keep:], "what it came from does not change"
    kept = known[-keep:]
    assert (len(tail), tuple(tail), tail) == (len(kept), kept, kept)
    assert (tail, hash(tail)) == (EventTail(kept), hash(EventTail(kept)))
    assert tail[low:high] == kept[low:high]
    assert [tail[n] for n in range(-len(kept), len(kept))] == [*kept, *kept]
    assert tail != (*kept, *_events(0, 1))


def test_its_wire_form_is_that_of_a_tuple() -> None:
    events = _events(1, 100)
    state = ClusterState(events=EventTail(events))
    assert decode_state(encode_state(state)) == state
    assert msgspec.json.decode(state_as_json(state))["events"] == [
        msgspec.to_builtins(event) for event in events
    ]
    assert len(decode_state(encode_state(state)).events.appended(events, 70)) == 70
