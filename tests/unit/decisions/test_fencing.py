"""Exclusive guests: never two at once, whatever clocks, partitions and leaders do."""

from __future__ import annotations

import immutables
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from sappers.decisions.fencing import (
    CLOCK_DRIFT_MAX,
    WATCHDOG_SECONDS,
    certain_after_seconds,
    ended_badly,
    members_to_fence,
    renewed_leases,
    surely_ended,
)
from sappers.decisions.reconcile_cluster import FORGET_AFTER_SECONDS, reconcile_cluster
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    Command,
    CordonMember,
    ForgetAllocation,
    PlaceAllocation,
    PutWorkload,
    ReportAllocation,
    ReportFencing,
    SetMemberState,
    StopAllocation,
)
from sappers.model.member import MemberState
from sappers.model.observation import MemberObservation
from tests.unit.exclusive_worlds import LEASE, exclusive, run_once
from tests.unit.worlds import commit, founded, member, with_allocations, workload


def live(state: ClusterState) -> list[Allocation]:
    return [a for a in state.allocations_of("hello") if not a.status.is_terminal]


def test_an_exclusive_allocation_carries_its_lease() -> None:
    _, first = exclusive()
    assert first.lease_seconds == LEASE
    assert first.is_exclusive


def test_another_is_placed_only_when_the_lost_one_has_surely_ended() -> None:
    state, first = exclusive()
    state, _ = commit(state, SetMemberState(first.member_id, MemberState.DEAD, ""), time=10.0)
    state = run_once(state, 30.0)
    assert state.allocations[first.id].status is AllocationStatus.LOST
    state = run_once(state, 9999.0)
    assert live(state) == []
    assert first.id in state.allocations  # it is not forgotten either
    state = run_once(state, 9999.0, surely_ended=frozenset({first.id}))
    assert len(live(state)) == 1


def test_a_fenced_host_holds_up_nothing() -> None:
    state, first = exclusive()
    state, _ = commit(state, SetMemberState(first.member_id, MemberState.DEAD, ""), time=10.0)
    assert members_to_fence(state, ()) == ()  # it is not given up yet
    state = run_once(state, 30.0)
    assert [one.id for one in members_to_fence(state, ())] == [first.member_id]
    state, outcome = commit(state, ReportFencing(first.member_id, done=True, text="off"))
    assert [event.kind for event in outcome.events] == ["member.fenced"]
    assert members_to_fence(state, ()) == ()
    assert ended_badly(state) == frozenset()
    assert len(live(run_once(state, 31.0))) == 1


def test_a_fence_that_failed_or_of_a_living_member_changes_nothing() -> None:
    state, first = exclusive()
    after, outcome = commit(state, ReportFencing(first.member_id, done=True, text="off"))
    assert "cannot be without power" in outcome.refused
    after, outcome = commit(state, ReportFencing(first.member_id, done=False, text="no BMC"))
    assert after.allocations == state.allocations
    assert outcome.events[0].text == "host1 could not be cut off from power: no BMC"


def test_a_fence_that_took_until_the_next_death_frees_nothing() -> None:
    """What was lost with the second death may have started after the power was cut."""
    state, first = exclusive()
    state, _ = commit(state, SetMemberState(first.member_id, MemberState.DEAD, ""), time=10.0)
    late = ReportFencing(first.member_id, done=True, text="off", dead_since=10.0)
    state, _ = commit(state, SetMemberState(first.member_id, MemberState.ALIVE, ""), time=20.0)
    state, _ = commit(state, SetMemberState(first.member_id, MemberState.DEAD, ""), time=30.0)
    state, _ = commit(state, ReportAllocation(first.id, AllocationStatus.LOST, ""), time=41.0)
    after, outcome = commit(state, late)
    assert "an earlier death" in outcome.refused
    assert ended_badly(after) == {first.id}
    after, outcome = commit(state, msgspec.structs.replace(late, dead_since=30.0))
    assert not outcome.refused
    assert ended_badly(after) == frozenset()


def test_a_new_revision_starts_only_when_the_old_guest_is_gone() -> None:
    state, first = exclusive()
    state, _ = commit(state, PutWorkload(workload(exclusive=True, memory_mib=256)))
    state = run_once(state, 2.0)
    assert not state.allocations[first.id].wanted
    assert live(state) == [state.allocations[first.id]]
    report = ReportAllocation(first.id, AllocationStatus.STOPPED, "stopped as asked")
    state, _ = commit(state, report, time=3.0)
    state = run_once(state, 4.0)
    assert [one.memory_mib for one in live(state)] == [256]


def test_a_drained_member_gives_up_its_exclusive_guest_first() -> None:
    state, first = exclusive()
    state, _ = commit(state, CordonMember(first.member_id, drain=True))
    gossip = tuple(one for _, one in sorted(state.members.items()))
    commands = reconcile_cluster(state, MemberObservation(gossip=gossip), 2.0)
    assert [type(one) for one in commands if not hasattr(one, "servers")] == [StopAllocation]


def test_what_is_not_exclusive_is_replaced_and_forgotten_as_ever() -> None:
    state, _ = commit(founded(3), PutWorkload(workload()))
    state = run_once(state, 1.0)
    first = state.allocations_of("hello")[0]
    state, _ = commit(state, SetMemberState(first.member_id, MemberState.DEAD, ""), time=10.0)
    state = run_once(state, 30.0)
    assert [a.id for a in live(state)] != [first.id]
    later = 31.0 + FORGET_AFTER_SECONDS
    gossip = tuple(one for _, one in sorted(state.members.items()))
    commands = reconcile_cluster(state, MemberObservation(gossip=gossip), later)
    assert ForgetAllocation(first.id) in commands


# The arithmetic, on real time that nobody sees

rates = st.floats(1 - CLOCK_DRIFT_MAX, 1 + CLOCK_DRIFT_MAX)
seconds = st.floats(0.0, 60.0)


@settings(max_examples=500, deadline=None)
@given(
    lease=st.floats(6.0, 300.0),
    member_rate=rates,
    leader_rate=rates,
    offsets=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    asks=st.lists(st.tuples(seconds, seconds, seconds), max_size=20),
    lost_at=st.floats(0.0, 100.0),
    seen_after=seconds,
    watchdog=st.floats(0.0, WATCHDOG_SECONDS),
)
def test_no_two_copies_overlap_under_any_bounded_drift(
    lease: float,
    member_rate: float,
    leader_rate: float,
    offsets: tuple[float, float],
    asks: list[tuple[float, float, float]],
    lost_at: float,
    seen_after: float,
    watchdog: float,
) -> None:
    """Each ask is sent, reaches the quorum, and is answered; delays are whatever they are."""

    def member_clock(real: float) -> float:
        return offsets[0] + member_rate * real

    def leader_clock(real: float) -> float:
        return offsets[1] + leader_rate * real

    allocation = msgspec.structs.replace(exclusive()[1], lease_seconds=lease)
    state = ClusterState(
        members=immutables.Map({"m1": member(1)}),
        allocations=immutables.Map({allocation.id: allocation}),
    )
    lost = msgspec.structs.replace(allocation, status=AllocationStatus.LOST)
    after = with_allocations(state, lost)
    until = member_clock(0.0) + lease  # asked just before all this
    sent_at = 0.0
    for pause, to_quorum, _ in asks:
        sent_at += pause
        shown = state if sent_at + to_quorum < lost_at else after
        granted = renewed_leases(shown, allocation.member_id, member_clock(sent_at))
        until = max(until, granted.get(allocation.id, until))
    gone_by_member = until + watchdog
    gone_at = (gone_by_member - offsets[0]) / member_rate

    first_seen = {allocation.id: leader_clock(lost_at + seen_after)}
    wait = certain_after_seconds(lease) / leader_rate
    free_at = lost_at + seen_after + wait
    assert not surely_ended(after, first_seen, leader_clock(free_at - 0.01))
    assert surely_ended(after, first_seen, leader_clock(free_at) + 0.001)
    assert gone_at <= free_at + 1e-3


events = st.lists(
    st.sampled_from(["die", "back", "report", "forget", "clock", "step", "end", "change", "drain"]),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(events, st.integers(1, 2), st.data())
def test_never_more_than_count_may_run_whatever_happens(
    happenings: list[str], count: int, data: st.DataObject
) -> None:
    """Wall clocks jump at will; only what has surely ended, or was stopped, makes room."""
    state, _ = exclusive(count)
    now, ended = 1.0, frozenset[str]()
    for what in happenings:
        someone = f"m{data.draw(st.integers(1, 3))}"
        match what:
            case "die" | "back":
                word = MemberState.DEAD if what == "die" else MemberState.ALIVE
                state, _ = commit(state, SetMemberState(someone, word, ""), time=now)
            case "report":
                for one in live(state)[:1]:
                    status = AllocationStatus.STOPPED
                    if one.wanted:
                        status = data.draw(st.sampled_from(["failed", "healthy"]))
                    report = ReportAllocation(one.id, AllocationStatus(status), "")
                    state, _ = commit(state, report, time=now)
            case "clock":
                now += data.draw(st.floats(0.0, 10_000.0))
            case "end":
                ended |= ended_badly(state)
            case "change":
                memory = data.draw(st.sampled_from([128, 256]))
                wanted = workload(exclusive=True, count=count, memory_mib=memory)
                state, _ = commit(state, PutWorkload(wanted), time=now)
            case "drain":
                state, _ = commit(state, CordonMember(someone, drain=True), time=now)
            case _:
                state = run_once(state, now, surely_ended=ended)
        # Nothing is ever forgotten that might run: what is not in the state is over.
        running = [
            one
            for one in state.allocations_of("hello")
            if not one.status.is_terminal or (one.id in ended_badly(state) and one.id not in ended)
        ]
        assert len(running) <= count


def plan_of(state: ClusterState, now: float, ended: frozenset[str]) -> tuple[Command, ...]:
    gossip = tuple(one for _, one in sorted(state.members.items()))
    seen = MemberObservation(gossip=gossip, surely_ended=ended)
    return reconcile_cluster(state, seen, now)


def test_two_plans_that_knew_nothing_of_each_other_place_one_guest() -> None:
    """The first was not applied yet when the second was made, by the same leader or the next."""
    before, _ = commit(founded(3), PutWorkload(workload(exclusive=True)))
    later, _ = commit(before, SetMemberState("m3", MemberState.DEAD, ""))
    first, second = plan_of(before, 1.0, frozenset()), plan_of(later, 1.0, frozenset())
    state, _ = commit(later, *first, term=1, leader_term=1)
    (one,) = live(state)
    state, outcome = commit(state, *second, term=2, leader_term=2)
    assert "1 of exclusive hello may run already" in outcome.refused
    state, _ = commit(state, ReportAllocation(one.id, AllocationStatus.LOST, ""))
    state, outcome = commit(state, *second, term=2, leader_term=2)
    assert "may run already" in outcome.refused  # its lease may not be over
    assert live(state) == []


def test_a_placement_from_before_it_said_what_has_ended_is_applied_as_then() -> None:
    state, first = exclusive()
    state, _ = commit(state, ReportAllocation(first.id, AllocationStatus.LOST, ""))
    old = PlaceAllocation(msgspec.structs.replace(first, id="hello-0"), "room")
    state, outcome = commit(state, old)
    assert not outcome.refused
    _, outcome = commit(state, PlaceAllocation(msgspec.structs.replace(first, id="hello-1"), ""))
    assert "may run already" in outcome.refused


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 2), st.data())
def test_no_interleaving_of_plans_has_more_than_count_run(count: int, data: st.DataObject) -> None:
    """Each plan is of any state there was, and its entry commits whenever and in any term."""
    history = [commit(founded(3), PutWorkload(workload(exclusive=True, count=count)))[0]]
    in_log: list[tuple[Command, ...]] = []
    ended: frozenset[str] = frozenset()
    for now in range(1, data.draw(st.integers(2, 15))):
        state = history[-1]
        match data.draw(st.sampled_from(["plan", "plan", "apply", "apply", "lose", "end", "die"])):
            case "plan":
                decided_on = history[data.draw(st.integers(0, len(history) - 1))]
                if commands := plan_of(decided_on, float(now), ended):
                    in_log.append(commands)
            case "apply" if in_log:
                entry = in_log.pop(data.draw(st.integers(0, len(in_log) - 1)))
                state, _ = commit(state, *entry, time=float(now), term=now)
            case "lose":
                for one in live(state)[:1]:
                    status = AllocationStatus(data.draw(st.sampled_from(["lost", "failed"])))
                    state, _ = commit(state, ReportAllocation(one.id, status, ""), time=float(now))
            case "end":
                ended |= ended_badly(state)
            case "die":
                someone = f"m{data.draw(st.integers(1, 3))}"
                word = data.draw(st.sampled_from([MemberState.DEAD, MemberState.ALIVE]))
                state, _ = commit(state, SetMemberState(someone, word, ""), time=float(now))
        history.append(state)
        may_be_running = {one.id for one in live(state)} | (ended_badly(state) - ended)
        assert len(may_be_running) <= count


def test_placing_is_what_a_step_does() -> None:
    state, _ = commit(founded(3), PutWorkload(workload(exclusive=True)))
    gossip = tuple(one for _, one in sorted(state.members.items()))
    commands = reconcile_cluster(state, MemberObservation(gossip=gossip), 1.0)
    assert any(isinstance(one, PlaceAllocation) for one in commands)
