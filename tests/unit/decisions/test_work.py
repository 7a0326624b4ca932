"""How the work of decisions grows with the cluster, in byte codes executed: no clock has a part.

And that the quick choice of a member is the one that looking at all of them gives.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import immutables
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sappers.decisions.reconcile_cluster import reconcile_cluster
from sappers.decisions.reconcile_member import reconcile_member
from sappers.decisions.scheduler import GUEST_OVERHEAD_MIB, Room
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import MemberState, Resources
from sappers.model.observation import MemberObservation
from sappers.model.policy import HealthSettings
from sappers.model.suspicion import Suspicion, SuspicionSource
from sappers.model.workload import Workload
from tests.unit import worlds
from tests.unit.worlds import founded, member, with_allocations, workload

NOW = 1000.0
SMALL, LARGE = 40, 160
# Of n log n, and somewhat more for what is rounded up.
GROWTH_MAX = LARGE * math.log(LARGE) / (SMALL * math.log(SMALL)) * 1.15


def work(run: Callable[[], Any]) -> int:
    """Byte codes that a call executes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(None)
    return count


def allocation(number: int, of: Workload, member_id: str, **changes: Any) -> Allocation:
    made = worlds.allocation(
        f"{of.name}-{number:08}",
        workload=of.name,
        revision=of.revision,
        memory_mib=of.memory_mib,
        member_id=member_id,
        status=AllocationStatus.HEALTHY,
        host_port=20_000 + number,
    )
    return msgspec.structs.replace(made, **changes)


def world(size: int, *, copies: int, workloads: int, placed: bool = True) -> ClusterState:
    """A cluster of so many members, each workload with so many copies, spread over all."""
    members = {
        f"m{number}": member(
            number, address=f"10.0.{number // 250}.{number % 250}", resources=Resources(4, 8192)
        )
        for number in range(size)
    }
    wanted = {f"w{n:05}": workload(f"w{n:05}", count=copies) for n in range(workloads)}
    running = [
        allocation(slot, one, f"m{(slot + place) % size}")
        for place, one in enumerate(wanted.values())
        for slot in range(copies if placed else 0)
    ]
    return msgspec.structs.replace(
        founded(1),
        members=immutables.Map(members),
        workloads=immutables.Map(wanted),
        allocations=immutables.Map({one.id: one for one in running}),
    )


def gossip(state: ClusterState) -> MemberObservation:
    return MemberObservation(gossip=tuple(one for _, one in sorted(state.members.items())))


def one_dead(state: ClusterState) -> ClusterState:
    dead = msgspec.structs.replace(state.members["m1"], state=MemberState.DEAD, state_since=1.0)
    return msgspec.structs.replace(state, members=state.members.set("m1", dead))


def crowded(state: ClusterState) -> ClusterState:
    """No member has room."""
    members = {
        one.id: msgspec.structs.replace(one, resources=Resources(1, 100))
        for one in state.members.values()
    }
    return msgspec.structs.replace(state, members=immutables.Map(members))


def plan_cluster(state: ClusterState) -> int:
    return work(lambda: reconcile_cluster(state, gossip(state), NOW))


CASES: dict[str, Callable[[int], ClusterState]] = {
    "nothing is to do": lambda size: world(size, copies=2, workloads=size),
    "a member died": lambda size: one_dead(world(size, copies=2, workloads=size)),
    "many workloads are placed": lambda size: world(size, copies=2, workloads=size, placed=False),
    "one workload is placed": lambda size: world(size, copies=2 * size, workloads=1, placed=False),
    "there is no room": lambda size: crowded(world(size, copies=2, workloads=size, placed=False)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_leaders_plan_grows_no_faster_than_n_log_n(case: str) -> None:
    small, large = (plan_cluster(CASES[case](size)) for size in (SMALL, LARGE))
    assert large / small <= GROWTH_MAX


def test_what_all_members_plan_together_grows_no_faster_than_n_log_n() -> None:
    def plan_all(size: int) -> int:
        state = world(size, copies=2, workloads=size)
        observed = MemberObservation(caught_up=True)
        return work(
            lambda: [
                reconcile_member(state, observed, one, NOW, HealthSettings())
                for one in state.members
            ]
        )

    assert plan_all(LARGE) / plan_all(SMALL) <= GROWTH_MAX


# -- the quick choice is the right one ------------------------------------------------------------


@st.composite
def states(draw: st.DrawFn) -> ClusterState:
    numbers = range(1, draw(st.integers(1, 6)) + 1)
    members = {
        f"m{n}": member(
            n,
            resources=Resources(2, draw(st.integers(0, 6)) * 300),
            state=draw(st.sampled_from([MemberState.ALIVE] * 5 + [MemberState.SUSPECT])),
        )
        for n in numbers
    }
    statuses = [AllocationStatus.HEALTHY, AllocationStatus.FAILED, AllocationStatus.STOPPED]
    made = [
        allocation(
            n,
            workload(draw(st.sampled_from(["one", "two"]))),
            f"m{draw(st.sampled_from(numbers))}",
            status=draw(st.sampled_from(statuses)),
        )
        for n in range(draw(st.integers(0, 8)))
    ]
    suspected = draw(st.sets(st.sampled_from(sorted(members))))
    return msgspec.structs.replace(
        founded(1),
        members=immutables.Map(members),
        allocations=immutables.Map({one.id: one for one in made}),
        suspicions=immutables.Map(
            {one: Suspicion(one, (SuspicionSource.PULSE,), "", 1.0, 1.0) for one in suspected}
        ),
    )


def best_of_all(state: ClusterState, wanted: Workload) -> str | None:
    """By looking at every member."""
    keys = []
    for one in state.members.values():
        there = [a for a in state.allocations.values() if a.member_id == one.id]
        live = [a for a in there if not a.status.is_terminal]
        free = one.resources.memory_mib - sum(a.memory_mib + GUEST_OVERHEAD_MIB for a in live)
        if one.state is not MemberState.ALIVE or free < wanted.memory_mib + GUEST_OVERHEAD_MIB:
            continue
        mine = [a for a in there if a.workload == wanted.name]
        failed = sum(a.status is AllocationStatus.FAILED for a in mine)
        copies = sum(not a.status.is_terminal for a in mine)
        keys.append((state.suspicion(one.id) is not None, failed, copies, -free, one.id))
    return min(keys)[-1] if keys else None


@given(states(), st.lists(st.sampled_from(["one", "two", "three"]), max_size=10))
@settings(deadline=None)
def test_each_choice_is_that_of_looking_at_all(state: ClusterState, names: list[str]) -> None:
    room = Room(state)
    for number, name in enumerate(sorted(names), 100):
        wanted = workload(name)
        chosen = room.choose(wanted)
        assert (chosen.member.id if chosen else None) == best_of_all(state, wanted)
        if chosen:
            taken = allocation(number, wanted, chosen.member.id, host_port=chosen.host_port)
            room.take(taken)
            state = with_allocations(state, taken)
