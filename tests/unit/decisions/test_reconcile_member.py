from __future__ import annotations

import msgspec
import pytest

from sappers.decisions.reconcile_member import RESTART_GRACE_SECONDS, hub_peer, reconcile_member
from sappers.model.actions import (
    LaunchGuest,
    ReportStatus,
    RestartGuest,
    RunHubServer,
    StopGuest,
    StopHubServer,
)
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import SetHub
from sappers.model.member import Ports
from sappers.model.observation import (
    GuestProcess,
    HealthPush,
    HubObservation,
    ImageReading,
    MemberObservation,
)
from sappers.model.policy import HealthSettings
from tests.unit import worlds
from tests.unit.worlds import IMAGE, commit, founded, member, with_allocations

SETTINGS = HealthSettings()


def world(**changes: object) -> tuple[ClusterState, Allocation]:
    allocation = worlds.allocation(**changes)
    return with_allocations(founded(), allocation), allocation


def plan(state: ClusterState, now: float = 100.0, **seen: object) -> tuple:
    observed = MemberObservation(**{"caught_up": True, **seen})
    return reconcile_member(state, observed, "m1", now, SETTINGS)


def guest(started_at: float = 0.0, **changes: object) -> dict:
    made = GuestProcess("hello-1", running=True, started_at=started_at)
    return {"hello-1": msgspec.structs.replace(made, **changes)}


def push(received_at: float, *, healthy: bool = True, healthy_at: float | None = None) -> dict:
    at = received_at if healthy else healthy_at
    return {"hello-1": HealthPush("hello-1", received_at, healthy, "says so", "b1", at)}


def test_nothing_is_touched_before_the_state_has_caught_up() -> None:
    state, _ = world()
    assert (
        plan(state, caught_up=False, guests=guest() | {"x": GuestProcess("x", running=True)}) == ()
    )


def test_a_pending_allocation_is_launched() -> None:
    state, allocation = world()
    assert plan(state) == (LaunchGuest(allocation, attempt=0),)


def image(reason: str, *, whole: bool = False, hopeless: bool = False) -> dict:
    return {IMAGE.digest: ImageReading(whole, reason, hopeless)}


@pytest.mark.parametrize("status", [AllocationStatus.PENDING, AllocationStatus.UNHEALTHY])
def test_a_launch_waits_for_its_image_and_says_so(status: AllocationStatus) -> None:
    state, _ = world(status=status, restarts=2)
    assert plan(state, images=image("image hello: 37 of 52 chunks")) == (
        ReportStatus("hello-1", AllocationStatus.PENDING, "image hello: 37 of 52 chunks", 2),
    )
    state, _ = world(reason="image hello: 37 of 52 chunks")
    assert plan(state, images=image("image hello: 37 of 52 chunks")) == ()


def test_waiting_for_an_image_outweighs_an_earlier_failure_and_uses_up_no_restart() -> None:
    state, allocation = world()
    seen = {"failed_launches": {"hello-1": "it was damaged"}}
    assert plan(state, images=image("1 of 2 chunks"), **seen) == (
        ReportStatus("hello-1", AllocationStatus.PENDING, "1 of 2 chunks", 0),
    )
    assert plan(state, images=image("", whole=True)) == (LaunchGuest(allocation, attempt=0),)


def test_an_image_that_cannot_come_here_fails_the_launch() -> None:
    state, allocation = world()
    assert plan(state, images=image("no room", hopeless=True)) == (
        ReportStatus("hello-1", AllocationStatus.UNHEALTHY, "no room", 0),
        RestartGuest(allocation, attempt=1, reason="no room"),
    )


def test_a_running_guest_does_not_care_about_its_image() -> None:
    state, _ = world(status=AllocationStatus.HEALTHY)
    seen = {"guests": guest(0.0), "pushes": push(99.0)}
    assert plan(state, images=image("1 of 2 chunks"), **seen) == ()


def test_only_a_push_makes_it_healthy() -> None:
    state, _ = world()
    assert plan(state, guests=guest(90.0)) == (
        ReportStatus("hello-1", AllocationStatus.STARTING, "booting", 0),
    )
    assert plan(state, guests=guest(90.0), pushes=push(95.0)) == (
        ReportStatus("hello-1", AllocationStatus.HEALTHY, "says so", 0),
    )


def test_a_push_from_before_this_boot_does_not_count() -> None:
    state, _ = world()
    (report,) = plan(state, guests=guest(90.0), pushes=push(80.0))
    assert report.status is AllocationStatus.STARTING


def test_a_healthy_guest_needs_nothing() -> None:
    state, _ = world(status=AllocationStatus.HEALTHY)
    assert plan(state, guests=guest(0.0), pushes=push(99.0)) == ()


def test_silence_makes_it_unhealthy_then_restarts_it() -> None:
    state, allocation = world(status=AllocationStatus.HEALTHY)
    (report,) = plan(state, guests=guest(0.0), pushes=push(89.0))
    assert report.status is AllocationStatus.UNHEALTHY
    actions = plan(state, guests=guest(0.0), pushes=push(79.0))
    assert RestartGuest(allocation, 1, "no health push for over 20 s") in actions


def test_an_unhealthy_word_that_lasts_restarts_it() -> None:
    state, allocation = world(status=AllocationStatus.HEALTHY)
    pushes = push(99.0, healthy=False, healthy_at=95.0)
    (report,) = plan(state, guests=guest(0.0), pushes=pushes)
    assert report.status is AllocationStatus.UNHEALTHY
    pushes = push(99.0, healthy=False, healthy_at=70.0)
    restart = RestartGuest(allocation, 1, "says so", grace_seconds=RESTART_GRACE_SECONDS)
    assert restart in plan(state, guests=guest(0.0), pushes=pushes)


@pytest.mark.parametrize("how", ["started from a template", "cold boot: as it was asked for"])
def test_how_a_guest_started_is_told_once_it_is_well(how: str) -> None:
    state, _ = world(status=AllocationStatus.PENDING)
    (report,) = plan(state, guests=guest(90.0, reason=how), pushes=push(99.0))
    assert report.status is AllocationStatus.HEALTHY
    assert report.reason == f"says so; {how}"


def test_a_clone_that_is_well_before_its_launch_has_ended_is_told_with_how_it_started() -> None:
    """The word on a healthy guest is not corrected: so it is said once all of it is known."""
    state, _ = world(status=AllocationStatus.STARTING)
    seen = {"guests": guest(), "pushes": push(99.5)}
    assert plan(state, under_way=frozenset({"hello-1"}), **seen) == ()
    assert plan(state, **seen) == (ReportStatus("hello-1", AllocationStatus.HEALTHY, "says so", 0),)


def test_a_guest_that_hangs_is_asked_nothing_before_it_is_killed() -> None:
    state, allocation = world(status=AllocationStatus.UNHEALTHY)
    actions = plan(state, guests=guest(0.0), pushes=push(79.0))
    restart = RestartGuest(allocation, 1, "no health push for over 20 s", grace_seconds=0.0)
    assert restart in actions


def test_a_guest_that_never_pushes_is_restarted_at_the_boot_deadline() -> None:
    state, allocation = world(status=AllocationStatus.STARTING, reason="booting")
    assert plan(state, guests=guest(20.0)) == ()
    actions = plan(state, guests=guest(5.0))
    assert RestartGuest(allocation, 1, "no health push within 90 s") in actions


def test_an_agent_that_restarted_waits_before_it_judges_silence() -> None:
    state, _ = world(status=AllocationStatus.HEALTHY)
    assert plan(state, guests=guest(0.0), agent_started_at=99.0) == ()


@pytest.mark.parametrize(
    "seen", [{}, {"guests": guest(0.0, running=False, reason="guest panicked")}]
)
def test_a_guest_that_ended_is_restarted_with_growing_waits(seen: dict) -> None:
    state, _ = world(status=AllocationStatus.HEALTHY)
    assert [type(a) for a in plan(state, **seen)] == [ReportStatus, RestartGuest]
    after_two = {"hello-1": (2, 98.0)}
    assert not any(isinstance(a, RestartGuest) for a in plan(state, restarts=after_two, **seen))
    later = plan(state, now=103.0, restarts=after_two, **seen)
    assert [a.attempt for a in later if isinstance(a, RestartGuest)] == [3]


def test_too_many_restarts_fail_the_allocation() -> None:
    state, _ = world(status=AllocationStatus.UNHEALTHY)
    dead = guest(0.0, running=False, reason="guest panicked")
    actions = plan(state, guests=dead, restarts={"hello-1": (3, 0.0)})
    assert actions == (
        StopGuest("hello-1", "guest panicked", grace_seconds=0.0),
        ReportStatus("hello-1", AllocationStatus.FAILED, "guest panicked, after 3 restarts", 3),
    )


@pytest.mark.parametrize(("repair", "limit"), [("", SETTINGS.restarts_max), ("repair-1", 0)])
def test_what_failed_stays_so_although_nobody_has_committed_it(repair: str, limit: int) -> None:
    # Without a leader it is pending for ever: it was started again and again.
    state, _ = world(repair=repair)
    (report,) = plan(state, restarts={"hello-1": (limit, 1.0)})
    assert report.status is AllocationStatus.FAILED


def test_a_guest_that_is_gone_before_anybody_knew_of_it_is_restarted_in_its_time() -> None:
    state, _ = world()
    assert not any(
        isinstance(one, RestartGuest) for one in plan(state, restarts={"hello-1": (0, 99.9)})
    )
    *_, restart = plan(state, restarts={"hello-1": (0, 1.0)})
    assert restart.attempt == 1


def test_the_last_restart_gets_its_chance() -> None:
    state, _ = world(status=AllocationStatus.UNHEALTHY, restarts=2)
    restarts = {"hello-1": (3, 99.0)}
    assert plan(state, restarts=restarts, under_way=frozenset({"hello-1"})) == ()
    (report,) = plan(state, restarts=restarts)
    assert report.status is AllocationStatus.FAILED


def test_long_health_clears_the_restarts() -> None:
    state, _ = world(status=AllocationStatus.HEALTHY)
    dead = guest(1.0, running=False, reason="guest panicked")
    actions = plan(
        state, now=500.0, guests=dead, pushes=push(499.0), restarts={"hello-1": (3, 1.0)}
    )
    assert [a.attempt for a in actions if isinstance(a, RestartGuest)] == [1]


def test_an_unwanted_guest_is_stopped_and_then_reported() -> None:
    state, _ = world(wanted=False, status=AllocationStatus.HEALTHY)
    assert [type(a) for a in plan(state, guests=guest())] == [StopGuest]
    assert plan(state) == (
        ReportStatus("hello-1", AllocationStatus.STOPPED, "stopped as asked", 0),
    )


@pytest.mark.parametrize(
    ("gateway_port", "changes", "seconds"),
    [
        (8080, {}, SETTINGS.drain_seconds),
        (0, {}, 0.0),
        (8080, {"guest_port": None}, 0.0),
        (8080, {"status": AllocationStatus.UNHEALTHY}, 0.0),
    ],
)
def test_only_a_guest_that_gateways_route_to_is_drained(
    gateway_port: int, changes: dict, seconds: float
) -> None:
    serving = {"status": AllocationStatus.HEALTHY, "guest_port": 80, "wanted": False}
    state, _ = world(**{**serving, **changes})
    elsewhere = member(3, ports=Ports(gateway=gateway_port))
    state = msgspec.structs.replace(state, members=state.members.set("m3", elsewhere))
    (stop,) = plan(state, guests=guest())
    assert stop == StopGuest("hello-1", "it is wanted no more", drain_seconds=seconds)


def test_guests_that_nobody_owns_are_swept() -> None:
    state, _ = world(status=AllocationStatus.LOST)
    orphan = {"old-1": GuestProcess("old-1", running=True)}
    assert {a.allocation_id for a in plan(state, guests=guest() | orphan)} == {"hello-1", "old-1"}


def test_a_failed_launch_counts_as_a_failure() -> None:
    state, allocation = world()
    actions = plan(state, failed_launches={"hello-1": "port 8080 is taken"})
    assert RestartGuest(allocation, 1, "port 8080 is taken") in actions


def test_the_hub_server_runs_where_the_state_says() -> None:
    state, _ = commit(founded(), SetHub(("m1", "m2")), term=1)
    servers = (state.members["m1"], state.members["m2"])
    peers = tuple(hub_peer(server) for server in servers)
    (run,) = plan(state)
    assert run == RunHubServer(servers, 1)
    assert plan(state, hub=HubObservation(server_running=True, server_peers=peers)) == ()
    state, _ = commit(state, SetHub(("m2", "m3")), term=1)
    (stop,) = plan(state, hub=HubObservation(server_running=True, server_peers=peers))
    assert isinstance(stop, StopHubServer)
    (again,) = plan(state)
    assert isinstance(again, StopHubServer), "it may have been dead when the hub left it"
    assert plan(state, hub=HubObservation(server_left=True)) == ()


def test_the_hub_server_refuses_guests_whose_allocation_is_over_wherever_they_are() -> None:
    state, lost = world(status=AllocationStatus.LOST)
    running = msgspec.structs.replace(lost, id="hello-2", status=AllocationStatus.HEALTHY)
    elsewhere = msgspec.structs.replace(lost, id="hello-3", member_id="m3")
    state = with_allocations(state, running, elsewhere)
    state, _ = commit(state, SetHub(("m1",)), term=1)
    (run,) = [action for action in plan(state) if isinstance(action, RunHubServer)]
    assert run.refused == ("hello-1", "hello-3")
    hub = HubObservation(
        server_running=True,
        server_peers=(hub_peer(state.members["m1"]),),
        server_refuses=run.refused,
    )
    assert not [action for action in plan(state, hub=hub) if isinstance(action, RunHubServer)]


# Exclusive guests


def test_an_exclusive_guest_starts_only_with_a_lease() -> None:
    state, allocation = world(lease_seconds=15.0)
    assert not [one for one in plan(state) if isinstance(one, LaunchGuest)]
    with_lease = plan(state, leases={"hello-1": 12.0})
    assert LaunchGuest(allocation, attempt=0) in with_lease


@pytest.mark.parametrize("caught_up", [True, False])
def test_an_exclusive_guest_is_stopped_in_order_before_its_lease_ends(caught_up: bool) -> None:
    state, _ = world(lease_seconds=15.0, status=AllocationStatus.HEALTHY)

    def stops(left: float) -> list[StopGuest]:
        seen = plan(state, guests=guest(), leases={"hello-1": left}, caught_up=caught_up)
        return [one for one in seen if isinstance(one, StopGuest)]

    assert stops(10.0) == []
    (stop,) = stops(2.0)
    assert stop.reason == "its member has not heard of the quorum"
    assert stop.grace_seconds < 2.0


def test_without_a_lease_a_guest_that_is_gone_is_neither_restarted_nor_failed() -> None:
    state, _ = world(lease_seconds=15.0, status=AllocationStatus.HEALTHY)
    kinds = (RestartGuest, LaunchGuest, ReportStatus)
    assert not [one for one in plan(state) if isinstance(one, kinds)]


def test_what_is_being_started_is_not_reported_as_stopped() -> None:
    state, _ = world(wanted=False)
    assert not [one for one in plan(state, under_way=frozenset({"hello-1"})) if _is_report(one)]
    assert [one for one in plan(state) if _is_report(one)]


def _is_report(action: object) -> bool:
    return isinstance(action, ReportStatus)
