"""Who is gone for good is forgotten, in time, and nobody else ever is."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.forgetting import forgotten_by_the_log, plan_forgetting, why_kept
from sappers.decisions.leader_time import LeaderTime
from sappers.decisions.reconcile_cluster import reconcile_cluster
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    Command,
    CordonMember,
    ForgetMember,
    RegisterMember,
    ReportAllocation,
    RevokeMember,
    SetHub,
    SetMemberState,
)
from sappers.model.member import MemberState
from sappers.model.observation import MemberObservation
from sappers.model.repair_commands import OpenRepair
from tests.unit.exclusive_worlds import exclusive
from tests.unit.worlds import commit, founded, member

ALIVE, SUSPECT, DEAD, LEFT = MemberState
AFTER = 72 * 3600.0
LATE = LeaderTime(10 * AFTER)


def became(state: ClusterState, member_id: str, word: MemberState, time: float) -> ClusterState:
    return commit(state, SetMemberState(member_id, word, "gossip says so"), time=time)[0]


_words = st.sampled_from(MemberState)
_history = st.lists(
    st.one_of(
        st.tuples(st.just("became"), st.integers(1, 6), _words),
        st.tuples(st.just("cordoned"), st.integers(1, 6), st.booleans()),
        st.tuples(st.just("hub"), st.integers(1, 6), st.none()),
        st.tuples(st.just("repaired"), st.integers(1, 6), st.none()),
        st.tuples(st.just("turn"), st.integers(0, 200), st.none()),
    ),
    max_size=40,
)


@given(_history)
def test_nobody_is_forgotten_who_is_there_or_has_anything_left(
    history: list[tuple[str, int, object]],
) -> None:
    """And whatever a leader plans, the log takes: it would be planned for ever."""
    state, now = founded(6), 1000.0
    for what, number, word in history:
        now += 3600.0
        one = f"m{number}"
        match what, word:
            case "became", MemberState():
                state = became(state, one, word, now)
            case "cordoned", bool():
                state, _ = commit(state, CordonMember(one, drain=word), time=now)
            case "hub", _:
                state, _ = commit(state, SetHub((one,)), time=now)
            case "repaired", _:
                state, _ = commit(state, OpenRepair(f"r-{one}", one, "dead"), time=now)
            case "turn", _:
                now += number * 3600.0
        before, plan = state, plan_forgetting(state, LeaderTime(now, AFTER), AFTER)
        for command in plan:
            gone = before.members[command.member_id]
            assert gone.state in (DEAD, LEFT)
            assert now - gone.state_since >= AFTER
            assert gone.id not in (*before.electorate, *before.hub_servers)
            assert before.open_repair(gone.id) is None
            state, outcome = commit(state, command, time=now)
            assert not outcome.refused
        assert not plan_forgetting(state, LeaderTime(now, AFTER), AFTER)
        tables = (state.members, state.cordons, state.suspicions, state.repair_logins)
        assert not any(command.member_id in table for command in plan for table in tables)


def test_who_is_gone_for_long_enough_is_forgotten() -> None:
    state = became(founded(5), "m4", DEAD, 1000.0)
    for now, planned in ((1000.0 + AFTER - 1, []), (1000.0 + AFTER, [ForgetMember("m4", 1000.0)])):
        assert plan_forgetting(state, LeaderTime(now), AFTER) == planned
    assert not plan_forgetting(state, LeaderTime(1000.0 + AFTER, 1800.0), AFTER), (
        "a new leader, or one whose clock stepped, looks for an hour itself"
    )
    state, outcome = commit(state, ForgetMember("m4", 1000.0), time=AFTER)
    assert [event.text for event in outcome.events] == ["host4, which was dead, is forgotten"]
    assert "m4" not in state.members
    state, _ = commit(state, RegisterMember(member(4)))
    assert state.members["m4"].state is ALIVE, "who comes back joins anew"


def test_who_came_back_meanwhile_stays() -> None:
    state = became(founded(5), "m4", DEAD, 1000.0)
    state = became(state, "m4", ALIVE, 2000.0)
    assert "it is alive" in commit(state, ForgetMember("m4"))[1].refused
    state = became(state, "m4", DEAD, 3000.0)
    assert "was there since" in commit(state, ForgetMember("m4", 1000.0))[1].refused
    assert commit(state, ForgetMember("m9"))[1].refused == "no member m9"


def test_a_voter_whom_nobody_can_replace_stays() -> None:
    state = became(founded(3), "m3", DEAD, 1000.0)
    assert why_kept(state, state.members["m3"]) == "it has a vote"
    assert not plan_forgetting(state, LATE, AFTER)


def test_where_an_exclusive_guest_may_still_run_nobody_is_forgotten() -> None:
    state, placed = exclusive()
    state = msgspec.structs.replace(state, electorate=("m9",), hub_servers=())
    state = became(state, placed.member_id, DEAD, 1000.0)
    assert why_kept(state, state.members[placed.member_id]) == f"{placed.id} may still run there"
    lost = ReportAllocation(placed.id, AllocationStatus.LOST, "its member is dead")
    state, _ = commit(state, lost, time=1000.0)
    assert why_kept(state, state.members[placed.member_id]) == f"{placed.id} may still run there"


def test_who_is_revoked_and_forgotten_does_not_come_back() -> None:
    state, _ = commit(founded(5), RevokeMember("m4"))
    state = became(state, "m4", DEAD, 1000.0)
    state, _ = commit(state, ForgetMember("m4"), time=AFTER)
    assert "is revoked" in commit(state, RegisterMember(member(4)))[1].refused
    seen = MemberObservation(gossip=(*state.members.values(), member(4)))
    plan: tuple[Command, ...] = reconcile_cluster(state, seen, AFTER)
    assert not any(isinstance(one, RegisterMember) for one in plan)


def test_gossip_forgets_whom_the_log_has_forgotten() -> None:
    state = founded(4)
    gossip = [member(1), member(4, state=DEAD), member(5), member(6, state=LEFT)]
    assert forgotten_by_the_log(state, gossip) == ("m6",), "m5 may be about to join"
    assert forgotten_by_the_log(ClusterState(), gossip) == (), "it has heard of nobody yet"
