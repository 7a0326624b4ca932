"""The monitor is the leader's to run, until an operator says otherwise."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.reconcile_cluster import reconcile_cluster
from sappers.decisions.system_workloads import plan_system_workloads
from sappers.model.alert import Alert
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    PlaceAllocation,
    PutImage,
    PutSystemWorkload,
    PutWorkload,
    RaiseAlert,
    RemoveImage,
    StopWorkload,
)
from sappers.model.image import ClusterImage
from sappers.model.observation import MemberObservation
from sappers.model.workload import ImageReference
from tests.unit.worlds import allocation, commit, founded, member, with_allocations, workload


def monitor_image(number: int, **changes: object) -> ClusterImage:
    image = ClusterImage("monitor", f"{number:064x}", "microvm", 20_000_000, float(number))
    return msgspec.structs.replace(image, **changes)


def settle(state: ClusterState) -> ClusterState:
    """The state once the leader has nothing more to say about system workloads."""
    for _ in range(5):
        commands = plan_system_workloads(state)
        if not commands:
            return state
        state, outcome = commit(state, *commands, leader_term=1)
        assert not outcome.refused
    raise AssertionError(f"it never settles: {commands}")


def test_a_cluster_with_a_monitor_image_runs_a_monitor() -> None:
    assert plan_system_workloads(founded()) == ()
    state, _ = commit(founded(), PutImage(monitor_image(1)))
    state = settle(state)
    running = state.workloads["monitor"]
    assert (running.role, running.guest_port, running.count) == ("monitor", 9100, 1)
    observed = MemberObservation(gossip=tuple(member(n) for n in (1, 2, 3)))
    placed = [c for c in reconcile_cluster(state, observed, 0.0) if isinstance(c, PlaceAllocation)]
    assert [p.allocation.role for p in placed] == ["monitor"]


def test_whichever_of_micro_vm_and_unikernel_was_pushed_last_is_the_monitor() -> None:
    nanos = monitor_image(2, name="monitor-nanos", kind="nanos")
    state, _ = commit(founded(), PutImage(nanos))
    state = settle(state)
    running = state.workloads["monitor"]
    assert (running.role, running.image.name) == ("monitor", "monitor-nanos")
    state, _ = commit(state, PutImage(monitor_image(3)))
    state = settle(state)
    assert state.workloads["monitor"].image.name == "monitor"
    assert state.workloads["monitor"].role == "monitor"


def test_an_image_of_another_kind_or_name_is_no_monitor() -> None:
    for image in (monitor_image(1, kind="appliance"), monitor_image(1, name="monitor2")):
        state, _ = commit(founded(), PutImage(image))
        assert plan_system_workloads(state) == ()


def test_a_newer_image_is_rolled_out_with_all_else_as_it_was() -> None:
    state, _ = commit(founded(), PutImage(monitor_image(1)))
    state = settle(state)
    bigger = msgspec.structs.replace(state.workloads["monitor"], memory_mib=256)
    state, _ = commit(state, PutWorkload(bigger), PutImage(monitor_image(2)))
    state = settle(state)
    assert state.workloads["monitor"].image.digest == monitor_image(2).digest
    assert state.workloads["monitor"].memory_mib == 256
    assert state.workloads["monitor"].revision == state.index


def test_a_monitor_that_an_operator_stopped_stays_away_until_it_is_asked_for() -> None:
    state, _ = commit(founded(), PutImage(monitor_image(1)))
    state, _ = commit(settle(state), StopWorkload("monitor"))
    assert state.stopped_by_hand == ("monitor",)
    state, _ = commit(state, PutImage(monitor_image(2)))
    assert plan_system_workloads(state) == ()
    wanted = workload(
        "monitor", image=ImageReference("monitor", monitor_image(2).digest), role="monitor"
    )
    state, _ = commit(state, PutWorkload(wanted))
    assert state.stopped_by_hand == ()
    state, _ = commit(state, PutImage(monitor_image(3)))
    assert settle(state).workloads["monitor"].image.digest == monitor_image(3).digest


def test_a_plan_that_crosses_an_operators_word_loses() -> None:
    state, _ = commit(founded(), PutImage(monitor_image(1)))
    late = plan_system_workloads(state)
    state, _ = commit(settle(state), StopWorkload("monitor"))
    state, outcome = commit(state, *late, leader_term=1)
    assert outcome.refused == "an operator stopped monitor"
    assert "monitor" not in state.workloads


def test_what_an_operator_runs_under_the_name_is_left_alone() -> None:
    state, _ = commit(founded(), PutWorkload(workload("monitor")), PutImage(monitor_image(1)))
    assert plan_system_workloads(state) == ()
    own = msgspec.structs.replace(workload("monitor"), role="monitor")
    state, outcome = commit(state, PutSystemWorkload(own), leader_term=1)
    assert outcome.refused == "monitor is an operator's own workload"
    state, _ = commit(state, StopWorkload("monitor"))
    assert state.stopped_by_hand == ()


STEPS = st.lists(
    st.sampled_from(["image 1", "image 2", "image 3", "drop", "stop", "run", "lead"]), max_size=12
)


@given(STEPS)
def test_whatever_happens_the_plan_settles_and_heeds_the_operator(steps: list[str]) -> None:
    state = founded()
    stopped = False
    for step in steps:
        match step.split():
            case ["image", number]:
                state, _ = commit(state, PutImage(monitor_image(int(number))))
            case ["drop"]:
                state, _ = commit(state, RemoveImage(monitor_image(3).digest))
            case ["stop"]:
                stopped = stopped or "monitor" in state.workloads
                state, _ = commit(state, StopWorkload("monitor"))
            case ["run"]:
                digest = monitor_image(1).digest
                wanted = workload(
                    "monitor", image=ImageReference("monitor", digest), role="monitor"
                )
                state, outcome = commit(state, PutWorkload(wanted))
                stopped = stopped and bool(outcome.refused)
            case ["lead"]:
                state = settle(state)
        if stopped:
            assert "monitor" not in settle(state).workloads


def test_alerts_end_with_the_last_monitor() -> None:
    state, _ = commit(founded(), PutImage(monitor_image(1)))
    state = settle(state)
    running = state.workloads["monitor"]
    copy = allocation(
        "monitor-1",
        workload="monitor",
        revision=running.revision,
        image=running.image,
        role="monitor",
    )
    state, _ = commit(state, PlaceAllocation(copy, "there is room"))
    state, outcome = commit(state, RaiseAlert("monitor-1", Alert("guest.silent", "hello-1", "hm")))
    assert not outcome.refused
    assert plan_system_workloads(state) == ()
    state, _ = commit(state, StopWorkload("monitor"))
    assert plan_system_workloads(state) == ()  # it still runs, and may speak
    gone = msgspec.structs.replace(state.allocations["monitor-1"], wanted=False)
    state = with_allocations(state, gone)
    state = settle(state)
    assert state.alerts == ()
    assert state.events[-1].kind == "alert.cleared"
