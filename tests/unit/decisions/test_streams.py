"""Which streams there should be: kept at once, removed only when long unwanted."""

from __future__ import annotations

import immutables
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.guest_scope import scope_of
from sappers.decisions.streams import GONE_SECONDS, plan_streams
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.durable import KeepStream, RemoveStream, StreamReading
from sappers.model.guest_scope import GuestScope
from tests.unit import worlds
from tests.unit.worlds import with_allocations, workload

names = st.sampled_from(["a", "b", "c", "d"])


def allocation(name: str, **changes: object) -> Allocation:
    return worlds.allocation(f"{name}-1", workload=name, **changes)


def world(workloads: set[str], allocations: tuple[Allocation, ...] = (), servers: int = 3):
    return ClusterState(
        hub_servers=tuple(f"m{number}" for number in range(servers)),
        workloads=immutables.Map({name: workload(name) for name in workloads}),
        allocations=immutables.Map({each.id: each for each in allocations}),
    )


@given(
    wanted=st.sets(names),
    found=st.dictionaries(names, st.builds(StreamReading, st.integers(1, 3), st.booleans())),
    servers=st.integers(2, 5),
)
def test_what_is_kept_is_wanted_and_not_yet_as_it_should_be(wanted, found, servers):
    plan = plan_streams(world(wanted, servers=servers), found, {}, 0.0)
    kept = {one.workload: one.replicas for one in plan.actions if isinstance(one, KeepStream)}
    assert len(kept) == len(plan.actions)
    assert list(kept) == sorted(kept)
    for name in wanted:
        was = found.get(name, StreamReading(0))
        # As many as there is room for, and never fewer than there were.
        assert kept.get(name, was.replicas) == max(min(3, servers), was.replicas)
        assert name in kept or was.whole
    assert kept.keys() <= wanted
    assert set(plan.gone_since) == found.keys() - wanted


def test_a_server_that_is_alone_has_the_only_copy():
    plan = plan_streams(world({"a"}, servers=1), {"a": StreamReading(3)}, {}, 0.0)
    assert plan.actions == (KeepStream("a", 1),)


@given(
    st.lists(
        st.tuples(st.floats(0, GONE_SECONDS), st.sets(names), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_a_stream_goes_only_after_nobody_has_wanted_it_for_long(history):
    """However often plans are made, and whoever comes and goes between them."""
    gone, now, unwanted_since = {}, 0.0, {}
    found = {name: StreamReading(3) for name in "abcd"}
    for pause, wanted, new_leader in history:
        now += pause
        if new_leader:
            gone, unwanted_since = {}, {}
        for name in found:
            if name in wanted:
                unwanted_since.pop(name, None)
            else:
                unwanted_since.setdefault(name, now)
        plan = plan_streams(world(wanted), found, gone, now)
        gone = plan.gone_since
        removed = {one.workload for one in plan.actions if isinstance(one, RemoveStream)}
        long = {name for name, since in unwanted_since.items() if now - since >= GONE_SECONDS}
        assert removed == long


def test_what_still_runs_keeps_its_stream_and_a_repair_needs_none():
    running, over = allocation("a"), allocation("b", status=AllocationStatus.STOPPED)
    healer = allocation("healer", repair="r1")
    plan = plan_streams(world(set(), (running, over, healer)), {}, {}, 0.0)
    assert plan.actions == (KeepStream("a", 3),)


def test_what_goes_makes_room_before_what_comes_needs_it():
    found = {"old": StreamReading(3)}
    plan = plan_streams(world({"a"}), found, {"old": 0.0}, GONE_SECONDS)
    assert plan.actions == (RemoveStream("old"), KeepStream("a", 3))


def test_without_a_hub_there_is_nothing_to_keep():
    assert plan_streams(world({"a"}, servers=0), {}, {}, 0.0).actions == ()


def test_a_guest_may_do_what_its_workload_may_until_it_should_end():
    state = world({"a"}, (allocation("a"),))
    linked = msgspec.structs.replace(workload("a"), links=("b",), role="monitor")
    state = msgspec.structs.replace(state, workloads=state.workloads.set("a", linked))
    assert scope_of(state, "a-1") == GuestScope("a-1", "a", ("b",), "monitor")
    assert scope_of(state, "a-2") is None
    for over in ({"wanted": False}, {"status": AllocationStatus.FAILED}):
        assert scope_of(with_allocations(state, allocation("a", **over)), "a-1") is None
