from __future__ import annotations

from sappers.decisions.electorate import choose_first_voters
from sappers.model.member import MemberState, Resources
from tests.unit.worlds import member


def ids(chosen: object) -> list[str]:
    return [one.id for one in chosen]


def test_nobody_is_chosen_before_enough_have_met() -> None:
    assert choose_first_voters([member(1), member(2, state=MemberState.DEAD)], "m1", 2) is None


def test_nobody_is_chosen_where_someone_votes_already() -> None:
    members = [member(1), member(2), member(3, has_vote=True, state=MemberState.DEAD)]
    assert choose_first_voters(members, "m1", 2) is None


def test_tagged_members_come_before_large_ones_and_the_founder_is_in() -> None:
    members = [
        member(1),
        member(2, resources=Resources(2, 9000)),
        member(3, voter_tag=True),
        member(4, resources=Resources(2, 8000)),
    ]
    assert ids(choose_first_voters(members, "m1", 3)) == ["m1", "m2", "m3"]


def test_the_first_voters_are_of_as_many_zones_as_there_are() -> None:
    large = Resources(4, 9000)
    members = [
        *(member(number, zone="a", resources=large) for number in (1, 2, 3)),
        member(4, zone="b"),
        member(5, zone="c"),
    ]
    assert ids(choose_first_voters(members, "m1", 3)) == ["m1", "m4", "m5"]
