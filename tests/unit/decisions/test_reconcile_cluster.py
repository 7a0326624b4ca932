from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.reconcile_cluster import (
    LOST_AFTER_SECONDS,
    RESCHEDULE_DELAY_SECONDS,
    reconcile_cluster,
)
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    Command,
    CordonMember,
    ForgetAllocation,
    PlaceAllocation,
    PutWorkload,
    RegisterMember,
    ReportAllocation,
    SetHub,
    StopAllocation,
    StopWorkload,
)
from sappers.model.limits import COUNT_MAX
from sappers.model.member import Member, MemberState
from sappers.model.observation import MemberObservation
from tests.unit.worlds import commit, founded, member, workload


def gossip_of(state: ClusterState, **states: MemberState) -> tuple[Member, ...]:
    return tuple(
        msgspec.structs.replace(one, state=states.get(one.id, MemberState.ALIVE))
        for _, one in sorted(state.members.items())
    )


def step(state: ClusterState, now: float, **states: MemberState) -> tuple[ClusterState, tuple]:
    observed = MemberObservation(gossip=gossip_of(state, **states))
    commands = reconcile_cluster(state, observed, now)
    if commands:
        state, outcome = commit(state, *commands, time=now)
        assert not outcome.refused
    return state, commands


def settle(state: ClusterState, now: float = 0.0, **states: MemberState) -> ClusterState:
    """Until nothing is left to do, with members that stop what they should."""
    for _ in range(20):
        state, commands = step(state, now, **states)
        stopping = [a for a in state.allocations.values() if not a.wanted]
        for allocation in stopping:
            if not allocation.status.is_terminal:
                stopped = ReportAllocation(allocation.id, AllocationStatus.STOPPED, "test")
                state, _ = commit(state, stopped, time=now)
        if not commands:
            return state
    raise AssertionError(f"does not settle: {commands}")


def report(state: ClusterState, status: AllocationStatus, now: float = 0.0) -> ClusterState:
    for allocation in state.allocations.values():
        if not allocation.status.is_terminal and allocation.status is not status:
            state, _ = commit(state, ReportAllocation(allocation.id, status, "test"), time=now)
    return state


def running(state: ClusterState, name: str = "hello") -> list:
    return [a for a in state.allocations_of(name) if a.wanted and not a.status.is_terminal]


def test_the_hub_follows_the_voters() -> None:
    _, commands = step(founded(), 0.0)
    assert commands == (SetHub(("m1", "m2", "m3")),)


def test_a_new_member_is_registered_and_a_dead_unknown_one_is_not() -> None:
    state = settle(founded())
    observed = MemberObservation(
        gossip=(*gossip_of(state), member(7), member(8, state=MemberState.DEAD))
    )
    assert reconcile_cluster(state, observed, 0.0) == (RegisterMember(member(7)),)


def test_a_moved_member_is_followed() -> None:
    state = settle(founded())
    moved = tuple(
        msgspec.structs.replace(m, address="10.9.9.9") if m.id == "m2" else m
        for m in gossip_of(state)
    )
    commands = reconcile_cluster(state, MemberObservation(gossip=moved), 0.0)
    assert [c.member.address for c in commands if isinstance(c, RegisterMember)] == ["10.9.9.9"]


def test_a_workload_gets_its_copies_on_different_members() -> None:
    state, _ = commit(settle(founded()), PutWorkload(workload(count=3)))
    state = settle(state)
    assert sorted(a.member_id for a in running(state)) == ["m1", "m2", "m3"]


def test_of_a_workload_without_end_no_more_is_planned_than_an_operator_may_ask_for() -> None:
    """Any member can propose it, and each leader in turn would plan for ever."""
    endless = msgspec.structs.replace(workload(count=2**53), memory_mib=-(2**40))
    state, _ = commit(founded(3), PutWorkload(endless))
    commands = reconcile_cluster(state, MemberObservation(gossip=gossip_of(state)), 0.0)
    assert sum(isinstance(one, PlaceAllocation) for one in commands) == COUNT_MAX


def test_a_dead_members_allocation_is_lost_and_placed_elsewhere() -> None:
    state, _ = commit(settle(founded()), PutWorkload(workload()))
    state = settle(state)
    (before,) = running(state)
    state = settle(state, now=50.0, **{before.member_id: MemberState.DEAD})
    assert running(state) == [before], "an agent that restarts keeps its guests"
    state = settle(state, now=60.0, **{before.member_id: MemberState.DEAD})
    (after,) = running(state)
    assert after.member_id != before.member_id
    assert state.allocations[before.id].status is AllocationStatus.LOST


def test_a_death_that_a_fast_clock_has_stamped_is_a_death_for_the_next_leader() -> None:
    state, _ = commit(settle(founded()), PutWorkload(workload()))
    state = settle(state)
    (before,) = running(state)
    state = settle(state, now=3650.0, **{before.member_id: MemberState.DEAD})
    state = settle(state, now=60.0, **{before.member_id: MemberState.DEAD})
    (after,) = running(state)
    assert after.member_id != before.member_id


def test_a_failure_that_a_fast_clock_has_stamped_holds_nothing_up() -> None:
    """Whoever proposes stamps: the member, whose clock may be hours ahead of the leader's."""
    state, _ = commit(settle(founded()), PutWorkload(workload()))
    state = report(settle(state), AllocationStatus.FAILED, now=7200.0)
    observed = MemberObservation(gossip=gossip_of(state))

    def plan(steady_seconds: float) -> list[Command]:
        commands = reconcile_cluster(state, observed, 60.0, steady_seconds=steady_seconds)
        return [one for one in commands if isinstance(one, PlaceAllocation)]

    assert not plan(RESCHEDULE_DELAY_SECONDS - 0.1)
    assert len(plan(RESCHEDULE_DELAY_SECONDS)) == 1


def test_what_takes_another_ones_place_says_whose_and_so_why() -> None:
    state, _ = commit(founded(), PutWorkload(workload(count=2)))
    state = report(settle(state), AllocationStatus.HEALTHY)
    first = running(state)[0]
    others = {one.id for one in running(state)}
    dead = {first.member_id: MemberState.DEAD}
    state = settle(state, now=0.0, **dead)
    state = settle(state, now=LOST_AFTER_SECONDS + 1, **dead)
    (second,) = (one for one in running(state) if one.id not in others)
    assert second.replaces == first.id
    causes = {event.number: event for event in state.events}
    event = next(e for e in state.events if e.subject == second.id)
    kinds = []
    while event is not None:
        kinds.append(event.kind)
        event = causes.get(event.cause)
    assert kinds == ["allocation.placed", "allocation.lost", "member.dead"]


def test_what_leaves_a_drained_member_is_placed_because_of_that() -> None:
    state, _ = commit(founded(), PutWorkload(workload()))
    state = report(settle(state), AllocationStatus.HEALTHY)
    (first,) = running(state)
    state, outcome = commit(state, CordonMember(first.member_id, drain=True))
    state = report(settle(state), AllocationStatus.HEALTHY)
    (second,) = (one for one in running(state) if one.id != first.id)
    assert second.replaces == first.id
    event = next(e for e in state.events if e.subject == second.id)
    assert event.cause == outcome.events[0].number
    state = settle(state)
    stopping = next(e for e in state.events if e.kind == "allocation.stopping")
    assert (stopping.subject, stopping.cause) == (first.id, outcome.events[0].number)


def test_a_suspect_member_keeps_its_allocations() -> None:
    state, _ = commit(settle(founded()), PutWorkload(workload()))
    state = settle(state)
    (before,) = running(state)
    state = settle(state, **{before.member_id: MemberState.SUSPECT})
    assert running(state) == [before]


def test_a_stopped_workload_stops_its_allocations() -> None:
    state, _ = commit(settle(founded()), PutWorkload(workload()))
    state = settle(state)
    state, _ = commit(state, StopWorkload("hello"))
    state, commands = step(state, 0.0)
    assert [type(c) for c in commands] == [StopAllocation]


def test_a_changed_workload_stops_old_copies_once_new_ones_are_healthy() -> None:
    state, _ = commit(settle(founded()), PutWorkload(workload()))
    state = report(settle(state), AllocationStatus.HEALTHY)
    (old,) = running(state)
    state, _ = commit(state, PutWorkload(workload(memory_mib=256)))
    state = settle(state)
    assert len(running(state)) == 2
    state = settle(report(state, AllocationStatus.HEALTHY))
    assert [a.memory_mib for a in running(state)] == [256]
    assert not state.allocations[old.id].wanted


def test_failures_are_retried_elsewhere_with_growing_waits() -> None:
    state, _ = commit(settle(founded()), PutWorkload(workload()))
    state = settle(state, now=0.0)
    (first,) = running(state)
    state = settle(report(state, AllocationStatus.FAILED, now=1.0), now=2.0)
    assert running(state) == []
    state = settle(state, now=7.0)
    (second,) = running(state)
    assert second.member_id != first.member_id
    state = settle(report(state, AllocationStatus.FAILED, now=8.0), now=14.0)
    assert running(state) == []
    assert running(settle(state, now=19.0))


def test_terminal_allocations_are_forgotten_after_a_while() -> None:
    state, _ = commit(settle(founded()), PutWorkload(workload()))
    state = settle(state)
    state, _ = commit(state, StopWorkload("hello"))
    state = settle(state, now=10.0)
    assert step(state, 500.0)[1] == ()
    assert [type(c) for c in step(state, 700.0)[1]] == [ForgetAllocation]


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([1, 2, 3]), st.sampled_from(MemberState)),
        max_size=12,
    )
)
def test_whatever_happens_it_settles_with_every_copy_on_a_living_member(
    steps: list[tuple[int, int, MemberState]],
) -> None:
    state = settle(founded())
    states: dict[str, MemberState] = {}
    now = 0.0
    for count, number, gossip_state in steps:
        now += 1.0
        states[f"m{number}"] = gossip_state
        state, _ = commit(state, PutWorkload(workload(count=count)), time=now)
        state = settle(state, now, **states)
        now += LOST_AFTER_SECONDS
        state = settle(state, now, **states)
        gone = {m for m, s in states.items() if s in (MemberState.DEAD, MemberState.LEFT)}
        live = running(state)
        assert all(a.member_id not in gone for a in live)
        if any(states.get(m, MemberState.ALIVE) is MemberState.ALIVE for m in ("m1", "m2", "m3")):
            assert (
                len([a for a in live if a.revision == state.workloads["hello"].revision]) == count
            )
