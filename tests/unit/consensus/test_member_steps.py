from __future__ import annotations

import msgspec

from sappers.decisions.scheduler import NoPlacement, place
from sappers.model.commands import (
    AnnounceElectorate,
    CordonMember,
    PlaceAllocation,
    PutWorkload,
    UncordonMember,
)
from tests.unit.exclusive_worlds import exclusive
from tests.unit.worlds import commit, founded, workload


def test_a_cordon_keeps_new_guests_away_until_it_is_lifted() -> None:
    state = founded(1)
    state, outcome = commit(state, CordonMember("m1", drain=False), time=5.0)
    assert outcome.events[0].text == "host1 is cordoned: nothing new is placed on it"
    assert place(state, workload()) == NoPlacement("host1 is cordoned")
    state, outcome = commit(state, UncordonMember("m1"))
    assert outcome.events[0].kind == "member.uncordoned"
    assert not isinstance(place(state, workload()), NoPlacement)


def test_cordons_are_idempotent_and_of_known_members() -> None:
    state, _ = commit(founded(1), CordonMember("m1", drain=True))
    again, outcome = commit(state, CordonMember("m1", drain=True), time=99.0)
    assert (again.cordons, outcome.events) == (state.cordons, ())
    assert commit(state, CordonMember("m9", drain=True))[1].refused == "no member m9"
    assert commit(founded(1), UncordonMember("m1"))[1].events == ()


def test_nothing_is_placed_on_a_member_that_was_cordoned_meanwhile() -> None:
    state, first = exclusive()
    state, _ = commit(state, CordonMember(first.member_id, drain=False))
    state, _ = commit(state, PutWorkload(workload(exclusive=True)))
    other = msgspec.structs.replace(first, id="hello-00000000")
    _, outcome = commit(state, PlaceAllocation(other, ""))
    assert "host1 is cordoned" in outcome.refused


def test_why_the_electorate_changes_is_told_and_changes_nothing() -> None:
    state = founded(3)
    after, outcome = commit(state, AnnounceElectorate("m2", "leaves", "host2 is drained"))
    assert after.electorate == state.electorate
    (event,) = outcome.events
    assert (event.kind, event.subject) == ("electorate.leaving", "m2")
    assert event.text == "host2 is to vote no more: host2 is drained"
