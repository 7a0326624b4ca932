from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.healing import (
    ATTEMPTS_MAX,
    CLAIM_SECONDS,
    REPAIR_SECONDS,
    REPAIRS_MAX,
    STAYS_UP_SECONDS,
    reconcile_repairs,
)
from sappers.decisions.leader_time import LeaderTime
from sappers.decisions.reconcile_cluster import LOST_AFTER_SECONDS, reconcile_cluster
from sappers.decisions.suspicion import SURE_SECONDS
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    Command,
    CordonMember,
    PutWorkload,
    RemoveImage,
    ReportAllocation,
    UncordonMember,
)
from sappers.model.member import MemberState
from sappers.model.observation import MemberObservation
from sappers.model.repair import HEALER, Finding, Repair, RepairStatus
from sappers.model.repair_commands import ClaimRepair, ReportRepairStep
from tests.unit.repair_worlds import HEALER_IMAGE, died, healing_cluster, only_repair, revived
from tests.unit.worlds import allocation, commit, founded, with_allocations, workload

NOW = 1000.0


def plan(state: ClusterState, now: float) -> tuple[Command, ...]:
    """By a leader that has led for ever, and whose clock never stepped."""
    return reconcile_repairs(state, LeaderTime(now))


def heal(state: ClusterState, now: float) -> ClusterState:
    """What the leader does until it has nothing more to do."""
    for _ in range(10):
        commands = plan(state, now)
        if not commands:
            return state
        state, outcome = commit(state, *commands, time=now)
        assert not outcome.refused, (outcome.refused, commands)
    raise AssertionError(f"does not settle: {commands}")


def healer(state: ClusterState) -> Allocation:
    (found,) = [a for a in state.allocations.values() if a.repair and not a.status.is_terminal]
    return found


def assigned(count: int = 3) -> ClusterState:
    """m2 is dead, and a healer is placed."""
    return heal(died(healing_cluster(count), "m2", NOW - SURE_SECONDS), NOW)


def claim(state: ClusterState, now: float) -> ClusterState:
    repair = only_repair(state)
    command = ClaimRepair(repair.id, repair.attempt, repair.allocation_id, now + REPAIR_SECONDS)
    state, outcome = commit(state, command, time=now)
    assert not outcome.refused
    return state


def says(state: ClusterState, finding: Finding, text: str, now: float) -> ClusterState:
    repair = only_repair(state)
    step = ReportRepairStep(repair.id, repair.attempt, repair.allocation_id, 1, text, finding)
    state, outcome = commit(state, step, time=now)
    assert not outcome.refused
    return state


def ends(state: ClusterState, status: AllocationStatus, now: float) -> ClusterState:
    state, _ = commit(state, ReportAllocation(healer(state).id, status, "test"), time=now)
    return state


def test_plain_rescheduling_does_not_wait_for_a_repair() -> None:
    assert LOST_AFTER_SECONDS < SURE_SECONDS
    state, _ = commit(healing_cluster(), PutWorkload(workload(count=3)))
    for now in (NOW, NOW + LOST_AFTER_SECONDS):
        gossip = tuple(
            msgspec.structs.replace(
                one, state=MemberState.DEAD if one.id == "m2" else MemberState.ALIVE
            )
            for _, one in sorted(state.members.items())
        )
        for _ in range(3):
            commands = reconcile_cluster(state, MemberObservation(gossip=gossip), now)
            state, _ = commit(state, *commands, time=now)
    assert not state.repairs
    live = [a for a in state.allocations_of("hello") if not a.status.is_terminal]
    assert len(live) == 3
    assert all(a.member_id != "m2" for a in live)


def test_a_member_that_is_dead_for_long_gets_a_healer_on_another_member() -> None:
    state = died(healing_cluster(), "m2", NOW)
    assert plan(state, NOW + SURE_SECONDS - 1) == ()
    state = heal(state, NOW + SURE_SECONDS)
    found = healer(state)
    assert (found.workload, found.repair) == (HEALER, only_repair(state).id)
    assert found.member_id != "m2"
    assert only_repair(state).deadline == NOW + SURE_SECONDS + CLAIM_SECONDS
    assert plan(state, NOW + SURE_SECONDS + 1) == ()


def test_without_a_healer_nothing_is_repaired() -> None:
    state = died(founded(), "m2", NOW)
    assert plan(state, NOW + 100) == ()
    state, _ = commit(died(healing_cluster(), "m2", NOW), RemoveImage(HEALER_IMAGE.digest))
    assert plan(state, NOW + 100) == ()


def test_a_member_that_left_is_not_repaired() -> None:
    state = healing_cluster()
    left = msgspec.structs.replace(state.members["m2"], state=MemberState.LEFT)
    state = msgspec.structs.replace(state, members=state.members.set("m2", left))
    assert plan(state, NOW + 100) == ()


def test_a_drained_host_is_its_operators_until_it_is_used_again() -> None:
    dead = died(healing_cluster(3), "m2", NOW - SURE_SECONDS)
    drained, _ = commit(dead, CordonMember("m2", drain=True))
    assert heal(drained, NOW).repairs == drained.repairs
    used, _ = commit(drained, UncordonMember("m2"))
    assert only_repair(heal(used, NOW)).member_id == "m2"


def test_gossip_and_not_the_healer_says_that_a_member_is_restored() -> None:
    state = says(claim(assigned(), NOW + 5), Finding.RESTORED, "it runs", NOW + 10)
    assert plan(state, NOW + 15) == ()
    state = revived(state, "m2", NOW + 16)
    assert plan(state, NOW + 17) == ()
    state = heal(state, NOW + 16 + STAYS_UP_SECONDS)
    repair = only_repair(state)
    assert repair.status is RepairStatus.RESTORED
    assert "attempt 1 repaired it" in repair.trouble
    assert not healer(state).wanted


def test_a_healer_that_says_restored_of_a_member_that_stays_dead_is_not_believed() -> None:
    state = says(claim(assigned(), NOW + 5), Finding.RESTORED, "it runs", NOW + 10)
    state = heal(state, NOW + 60)
    assert only_repair(state).status is RepairStatus.OPEN
    assert "not alive" in only_repair(state).trouble


def test_a_member_that_comes_back_by_itself_needs_no_healer() -> None:
    state = heal(revived(assigned(), "m2", NOW + 1), NOW + 1 + STAYS_UP_SECONDS)
    assert only_repair(state).status is RepairStatus.RESTORED
    assert "without a healer" in only_repair(state).trouble
    assert not healer(state).wanted


def test_an_unreachable_host_is_given_up_and_its_work_is_elsewhere() -> None:
    state, _ = commit(healing_cluster(), PutWorkload(workload()))
    state = with_allocations(state, allocation(member_id="m2", status=AllocationStatus.LOST))
    state = heal(died(state, "m2", NOW - SURE_SECONDS), NOW)
    state = says(claim(state, NOW + 5), Finding.UNREACHABLE, "no SSH: no answer", NOW + 50)
    state = heal(state, NOW + 51)
    repair = only_repair(state)
    assert repair.status is RepairStatus.MOVED
    assert "no SSH: no answer" in repair.trouble
    assert "hello-1" in repair.trouble
    assert plan(ends(state, AllocationStatus.STOPPED, NOW + 52), NOW + 500) == ()


def test_what_only_a_person_can_mend_is_not_tried_again() -> None:
    state = says(claim(assigned(), NOW + 5), Finding.HOPELESS, "it is disabled", NOW + 10)
    state = heal(state, NOW + 11)
    repair = only_repair(state)
    assert (repair.status, repair.trouble) == (RepairStatus.FAILED, "host2: it is disabled")
    assert repair.attempt == 1


def test_another_healer_follows_one_that_failed_on_another_member() -> None:
    state = assigned()
    first = healer(state)
    state = heal(ends(state, AllocationStatus.FAILED, NOW + 1), NOW + 1)
    assert only_repair(state).status is RepairStatus.OPEN
    state = heal(state, NOW + 60)
    assert only_repair(state).attempt == 2
    assert healer(state).id != first.id
    assert healer(state).member_id != first.member_id


def test_a_healer_that_does_not_claim_in_time_is_stopped() -> None:
    state = assigned()
    first = healer(state)
    state = heal(state, NOW + CLAIM_SECONDS)
    assert not state.allocations[first.id].wanted
    assert "not claimed" in only_repair(state).trouble


def test_a_person_is_told_after_the_last_attempt() -> None:
    state, now = assigned(), NOW
    for _ in range(ATTEMPTS_MAX):
        now += 1
        state = heal(ends(state, AllocationStatus.FAILED, now), now)
        now += 120
        state = heal(state, now)
    repair = only_repair(state)
    assert repair.status is RepairStatus.FAILED
    assert f"{ATTEMPTS_MAX} attempts failed" in repair.trouble
    assert plan(state, now + 10_000) == ()


def test_a_member_that_dies_again_and_again_is_a_persons() -> None:
    state, now = healing_cluster(), NOW
    for _ in range(REPAIRS_MAX):
        state = died(state, "m2", now)
        now += SURE_SECONDS * 2.0**REPAIRS_MAX
        state = heal(state, now)
        state = ends(heal(revived(state, "m2", now), now + 10), AllocationStatus.STOPPED, now + 11)
        now += 12
    assert len(state.repairs) == REPAIRS_MAX
    state = died(state, "m2", now)
    assert plan(state, now + 1000) == ()


def test_no_room_for_a_healer_is_told_in_the_end() -> None:
    state = died(healing_cluster(), "m2", NOW - SURE_SECONDS)
    for one in ("m1", "m3"):
        full = msgspec.structs.replace(
            state.members[one],
            resources=msgspec.structs.replace(state.members[one].resources, memory_mib=64),
        )
        state = msgspec.structs.replace(state, members=state.members.set(one, full))
    state = heal(state, NOW)
    assert not state.allocations
    state = heal(state, NOW + 1000)
    assert only_repair(state).status is RepairStatus.FAILED
    assert "no room for a healer" in only_repair(state).trouble


_HAPPENS = st.sampled_from(
    ["nothing", "m1 dies", "m2 dies", "m3 dies", "m1 lives", "m2 lives", "m3 lives", "claim"]
    + [f"healer {status}" for status in ("healthy", "failed", "lost", "stopped")]
    + [f"says {finding}" for finding in Finding]
)


@given(st.lists(st.tuples(_HAPPENS, st.sampled_from([1.0, 8.0, 40.0, 300.0])), max_size=40))
def test_whatever_happens_plans_are_not_refused_and_each_member_has_one_healer(happens) -> None:
    state, now = healing_cluster(4), NOW
    for what, wait in happens:
        now += wait
        state = _happen(state, what, now)
        state = heal(state, now)
        at_work: dict[str, list[str]] = {}
        for repair in state.repairs.values():
            if not repair.status.is_terminal and repair.allocation_id:
                at_work.setdefault(repair.member_id, []).append(repair.allocation_id)
                home = state.allocations[repair.allocation_id].member_id
                assert home != repair.member_id
        assert all(len(healers) == 1 for healers in at_work.values())


def _happen(state: ClusterState, what: str, now: float) -> ClusterState:
    who, _, verb = what.partition(" ")
    if verb in ("dies", "lives"):
        return (died if verb == "dies" else revived)(state, who, now)
    commands = [one for repair in _open(state) for one in _saying(state, repair, who, verb, now)]
    for command in commands:
        state, _ = commit(state, command, time=now)
    return state


def _open(state: ClusterState) -> list[Repair]:
    return [
        repair
        for repair in state.repairs.values()
        if not repair.status.is_terminal and repair.allocation_id in state.allocations
    ]


def _saying(state: ClusterState, repair: Repair, who: str, verb: str, now: float) -> list[Command]:
    healer_id = repair.allocation_id
    if who == "claim":
        return [ClaimRepair(repair.id, repair.attempt, healer_id, now + REPAIR_SECONDS)]
    if who == "healer":
        return [ReportAllocation(healer_id, AllocationStatus(verb), "test")]
    if who == "says":
        number = repair.steps + 1
        return [ReportRepairStep(repair.id, repair.attempt, healer_id, number, "x", Finding(verb))]
    return []
