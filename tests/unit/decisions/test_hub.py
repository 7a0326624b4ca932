"""The hub follows the voters, and no server goes that may be needed for a message."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.hub import plan_hub, plan_moves, votes_settled
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import RevokeMember, SetHub
from sappers.model.hub import EvacuateServer, ForgetServer, HubReading, member_of, server_name
from sappers.model.member import MemberState
from tests.unit.worlds import commit, founded, member

IDS = [f"m{number}" for number in range(1, 6)]


def world(voters: tuple[str, ...], servers: tuple[str, ...], *dead: str) -> ClusterState:
    state = founded(5)
    members = state.members
    for one in dead:
        members = members.set(one, member(int(one[1:]), state=MemberState.DEAD))
    return msgspec.structs.replace(state, electorate=voters, hub_servers=servers, members=members)


def reading(*holders: str, settled: bool = True, offline: tuple[str, ...] = ()) -> HubReading:
    peers = dict.fromkeys(IDS, True) | dict.fromkeys(offline, False)
    return HubReading(frozenset(holders), settled, peers)


def test_who_comes_is_added_before_anyone_goes() -> None:
    state = world(("m1", "m2", "m4"), ("m1", "m2", "m3"))
    assert plan_hub(state, None) == (SetHub(("m1", "m2", "m3", "m4")),)


def test_who_goes_stays_until_others_have_all_of_it() -> None:
    state = world(("m1", "m2", "m4"), ("m1", "m2", "m3", "m4"))
    assert plan_hub(state, None) == ()
    assert plan_hub(state, reading("m1", "m2", "m3")) == ()
    assert plan_moves(state, reading("m1", "m2", "m3")) == (EvacuateServer("m3"),)
    assert plan_moves(state, reading("m1", "m2", "m3", offline=("m4",))) == ()
    assert plan_hub(state, reading("m1", "m2", "m4", settled=False)) == ()
    free = reading("m1", "m2", "m4")
    assert plan_moves(state, free) == ()
    assert plan_hub(state, free) == (SetHub(("m1", "m2", "m4")),)


def test_a_dead_one_is_not_waited_for_and_forgotten() -> None:
    state = world(("m1", "m2", "m4"), ("m1", "m2", "m3", "m4"), "m3")
    assert plan_hub(state, None) == (SetHub(("m1", "m2", "m4")),)
    state = world(("m1", "m2", "m4"), ("m1", "m2", "m4"), "m3")
    peers = {"m1": True, "m2": True, "m3": False, "m4": True}
    assert plan_moves(state, HubReading(peers=peers)) == (ForgetServer("m3"),)
    # One that belongs to the hub may come back.
    assert plan_moves(state, HubReading(peers=peers | {"m3": True, "m4": False})) == ()


def test_one_that_is_revoked_goes_at_once_whatever_it_holds() -> None:
    state = world(("m1", "m2", "m4"), ("m1", "m2", "m3", "m4"))
    state, _ = commit(state, RevokeMember("m3"))
    assert plan_hub(state, reading("m1", "m2", "m3")) == (SetHub(("m1", "m2", "m4")),)


def test_nothing_is_settled_while_one_that_left_has_a_say_still() -> None:
    state = world(("m1", "m2"), ("m1", "m2"))
    assert votes_settled(state, HubReading())
    assert votes_settled(state, HubReading(peers={"m1": True, "m2@3": False}))
    # It ends in a moment, and is then forgotten; until it is, the hub needs one more of the others.
    assert not votes_settled(state, HubReading(peers={"m1": True, "m2": True, "m3": True}))
    assert not votes_settled(state, HubReading(peers={"m1": True, "m2": False, "m2@1": True}))
    assert not votes_settled(world(("m1", "m2"), ("m1", "m2", "m3")), HubReading())


def test_who_comes_back_has_another_name_and_the_old_one_is_forgotten() -> None:
    assert (server_name("m3", 0), server_name("m3", 7)) == ("m3", "m3@7")
    state = world(("m1", "m3"), ("m1", "m3"))
    found = HubReading(frozenset({"m1"}), True, {"m1": True, "m3": False, "m3@7": True})
    assert plan_moves(state, found) == (ForgetServer("m3"),)


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(IDS), min_size=1, unique=True),
            st.sets(st.sampled_from(IDS)),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_one_at_a_time_goes_and_only_when_it_holds_nothing(turns: list) -> None:  # type: ignore[type-arg]
    state = world(("m1", "m2", "m3"), ("m1", "m2", "m3"))
    for voters, holders, settled in turns:
        state = msgspec.structs.replace(state, electorate=tuple(voters))
        found = HubReading(frozenset(holders), settled, dict.fromkeys(IDS, True))
        for change in plan_hub(state, found):
            left = set(state.hub_servers) - set(change.servers)
            assert len(left) <= 1
            assert not left or (settled and not left & {member_of(one) for one in holders})
            assert not left & set(voters)
            state = msgspec.structs.replace(state, hub_servers=change.servers)
        assert state.hub_servers


@given(st.lists(st.sampled_from(IDS), min_size=1, unique=True))
def test_the_hub_settles_on_the_voters(voters: list[str]) -> None:
    state = world(tuple(voters), ("m1", "m2", "m3"))
    for _ in range(10):
        for change in plan_hub(state, HubReading()):
            state = msgspec.structs.replace(state, hub_servers=change.servers)
    assert state.hub_servers == tuple(voters)
