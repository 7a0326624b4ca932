from __future__ import annotations

import msgspec
import pytest

from sappers.cli.cordon import find_member, how_empty
from sappers.errors import ConfigError
from sappers.model.cordon import Cordon
from sappers.model.member import MemberState
from sappers.model.view import MemberView
from tests.fake_member import make_allocation, make_member, make_view


def seen(node_id: str, name: str, state: MemberState = MemberState.ALIVE) -> MemberView:
    member = msgspec.structs.replace(make_member(name), id=node_id, state=state)
    return MemberView(member, "none", 1, 0, 0, "-")


VIEW = make_view(
    (seen("a-1", "a"), seen("b-1", "b", MemberState.DEAD), seen("b-2", "b")),
    allocations=(),
    electorate=("a-1",),
    hub_servers=("a-1",),
)


def test_a_member_is_found_by_id_or_name_and_of_two_the_one_that_lives() -> None:
    assert find_member(VIEW, "a").id == "a-1"
    assert find_member(VIEW, "b").id == "b-2"
    assert find_member(VIEW, "b-1").id == "b-1"
    assert find_member(VIEW, "b", prefer=("dead", "left")).id == "b-1", "who is to be forgotten"
    with pytest.raises(ConfigError, match="no member is called c"):
        find_member(VIEW, "c")


class Client:
    def __init__(self, **changes: object) -> None:
        self._view = msgspec.structs.replace(VIEW, **changes)

    def view(self) -> object:
        return self._view


def test_empty_means_no_guest_no_vote_and_no_hub() -> None:
    member = find_member(VIEW, "a")
    guest = make_allocation("web", "a-1")
    assert how_empty(Client(allocations=(guest,)), member) == (
        False,
        "it still has web-0a1b2c3d, its vote, the hub",
    )
    assert how_empty(Client(electorate=(), hub_servers=()), member) == (True, "empty")


def test_where_nobody_can_take_the_vote_it_is_said() -> None:
    member = find_member(VIEW, "a")
    assert how_empty(Client(hub_servers=()), member) == (False, "it still has its vote")
    for alone in ({"members": VIEW.members[:2]}, {"cordons": {"b-2": Cordon(False, 1.0)}}):
        progress = how_empty(Client(hub_servers=(), **alone), member)[1]
        assert progress.startswith("it still has its vote; no member is there to take its vote")
