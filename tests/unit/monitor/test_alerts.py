"""Alerts: raised when something is wrong for long enough, cleared when it is right again."""

from __future__ import annotations

import pytest
from alerts import (
    ALERTS_MAX,
    CLEAR_SECONDS,
    FLAPPING_TURNS,
    SILENT_HOLD_SECONDS,
    SILENT_SECONDS,
    UNHEALTHY_SECONDS,
    Alerts,
    Wrong,
    find_wrong,
)
from gathered import FORGET_SECONDS, Gathered
from hypothesis import given
from hypothesis import strategies as st
from monitor import Monitor

from sappers.agent.hub.alert_reports import AlertReports
from sappers.agent.hub.refusals import Refusals
from sappers.model.event import event_line
from sappers.model.repair import RepairStatus
from sappers.model.repair_commands import CloseRepair
from tests.unit.clocks import FixedClock
from tests.unit.monitor.test_gathered import event, push
from tests.unit.repair_worlds import opened, revived
from tests.unit.worlds import commit


def kinds(gathered: Gathered, now: float) -> set[tuple[str, str]]:
    return {one.key for one in find_wrong(gathered, now)}


def test_a_guest_that_falls_silent_and_comes_back() -> None:
    gathered, alerts = Gathered(), Alerts()
    gathered.push("web-1", push(0), 0.0)
    said: list[tuple[int, bool, tuple[str, str]]] = []
    for second in range(80):
        if second >= 30:
            gathered.push("web-1", push(second), float(second))
        changes = alerts.update(find_wrong(gathered, float(second)), float(second))
        said += [(second, change.raised, change.wrong.key) for change in changes]
    key = ("guest.silent", "web-1")
    silent = int(SILENT_SECONDS + SILENT_HOLD_SECONDS) + 1
    assert said == [(silent, True, key), (29 + int(CLEAR_SECONDS), False, key)]
    assert alerts.raised == []


def test_a_monitor_that_hears_nobody_says_nothing_of_anybody() -> None:
    monitor = Monitor()
    for second in range(20):
        monitor.gathered.push("monitor-1", push(second), float(second))
        monitor.gathered.push("web-1", push(second), float(second))
        assert monitor.look(float(second)) == []
    for second in range(20, 120):  # the hub is away
        assert monitor.look(float(second)) == []
    for second in range(120, 140):
        monitor.gathered.push("monitor-1", push(second), float(second))
        assert monitor.look(float(second)) == []
        monitor.gathered.push("web-1", push(second), float(second))


def test_a_guest_that_is_unwell_is_an_alert_only_if_it_lasts() -> None:
    gathered, alerts = Gathered(), Alerts()
    said: list[float] = []
    for second in range(60):
        gathered.push("web-1", push(second, healthy=False), float(second))
        if alerts.update(find_wrong(gathered, float(second)), float(second)):
            said.append(float(second))
    assert said == [UNHEALTHY_SECONDS]


def test_health_that_changes_again_and_again_and_boots_that_do() -> None:
    gathered = Gathered()
    for turn in range(FLAPPING_TURNS + 1):
        gathered.push("web-1", push(turn, healthy=turn % 2 == 0), float(turn))
    for boot in range(3):
        gathered.push("web-2", push(0, boot_id=f"b{boot}"), float(boot))
    assert kinds(gathered, 5.0) == {("guest.flapping", "web-1"), ("guest.restarted-often", "web-2")}
    gathered.push("web-1", push(99), 300.0)
    gathered.push("web-2", push(99, boot_id="b2"), 300.0)
    assert kinds(gathered, 300.0) == {("guest.restarted-often", "web-2")}


def test_events_that_another_one_ends_and_those_that_time_ends() -> None:
    gathered = Gathered()
    gathered.event(event("member.dead", "m1"), 0.0)
    gathered.event(event("allocation.failed", "web-1"), 0.0)
    gathered.event(event("member.joined", "m2"), 0.0)
    assert kinds(gathered, 1.0) == {("member.dead", "m1"), ("allocation.failed", "web-1")}
    gathered.event(event("member.alive", "m2"), 2.0)
    assert kinds(gathered, 400.0) == {("member.dead", "m1")}
    gathered.event(event("member.alive", "m1"), 401.0)
    assert kinds(gathered, 402.0) == set()


def failed_repair(member_id: str = "m1", repair_id: str = "repair-1") -> Gathered:
    """A member died, and its repair came to nothing."""
    gathered = Gathered()
    gathered.event(event("member.dead", member_id, number=7), 0.0)
    gathered.event(event("repair.opened", repair_id, number=9, cause=7), 15.0)
    gathered.event(event("repair.attempt-failed", repair_id, number=10, cause=9), 60.0)
    gathered.event(event("repair.failed", repair_id, number=11, cause=10), 61.0)
    return gathered


DEAD, FAILED = ("member.dead", "m1"), ("repair.failed", "repair-1")


def test_what_no_time_ends_lasts_until_another_event_ends_it() -> None:
    gathered = failed_repair()
    for hour in range(1, 5):
        gathered.forget(hour * FORGET_SECONDS)
        assert kinds(gathered, hour * FORGET_SECONDS) == {DEAD, FAILED}
    gathered.event(event("member.alive", "m1"), 5 * FORGET_SECONDS)
    for hour in range(5, 8):
        gathered.forget(hour * FORGET_SECONDS)
        assert kinds(gathered, hour * FORGET_SECONDS) == set()


@pytest.mark.parametrize("end", ["member.alive", "member.trusted", "member.left"])
def test_a_failed_repair_is_over_when_its_member_is_well_or_gone(end: str) -> None:
    gathered = failed_repair()
    gathered.event(event(end, "m2"), 70.0)
    assert FAILED in kinds(gathered, 71.0)
    gathered.event(event(end, "m1"), 72.0)
    assert FAILED not in kinds(gathered, 73.0)


def test_a_failed_repair_is_over_when_the_next_one_of_its_member_begins() -> None:
    gathered = failed_repair()
    gathered.event(event("member.dead", "m2", number=20), 70.0)
    gathered.event(event("repair.opened", "repair-2", number=21, cause=20), 71.0)
    assert FAILED in kinds(gathered, 72.0)
    gathered.event(event("repair.opened", "repair-3", number=22, cause=7), 73.0)
    assert kinds(gathered, 74.0) == {DEAD, ("member.dead", "m2")}
    gathered.event(event("repair.failed", "repair-3", number=23, cause=22), 80.0)
    assert ("repair.failed", "repair-3") in kinds(gathered, 81.0)
    gathered.event(event("repair.restored", "repair-2", number=24, cause=20), 82.0)
    assert ("repair.failed", "repair-3") in kinds(gathered, 83.0)


def test_a_failed_repair_whose_beginning_was_not_heard_is_told_for_an_hour() -> None:
    gathered = Gathered()
    gathered.event(event("repair.failed", "repair-1", number=11, cause=10), 0.0)
    gathered.forget(FORGET_SECONDS)
    assert kinds(gathered, FORGET_SECONDS) == {FAILED}
    gathered.forget(FORGET_SECONDS + 1)
    assert kinds(gathered, FORGET_SECONDS + 1) == set()


def test_the_events_of_a_real_repair_are_understood() -> None:
    state = opened()
    state, _ = commit(state, CloseRepair("r1", RepairStatus.FAILED, "host2: given up"), time=130.0)
    gathered = Gathered()
    for one in state.events:
        gathered.event(event_line(one), one.time)
    assert {("member.dead", "m2"), ("repair.failed", "r1")} <= kinds(gathered, 131.0)
    for one in revived(state, "m2", 140.0).events[len(state.events) :]:
        gathered.event(event_line(one), one.time)
    assert kinds(gathered, 141.0) == set()


async def test_what_a_monitor_reports_its_member_understands() -> None:
    monitor = Monitor()
    monitor.gathered.event(event("member.dead", "host-1.example"), 0.0)
    monitor.gathered.push("web-1", push(0, healthy=False), 0.0)
    for second in (14, 20):
        monitor.gathered.push("monitor-1", push(second), float(second))
        monitor.look(float(second))
    reports = AlertReports(FixedClock(), Refusals(FixedClock()))
    subject = "sappers.guest.monitor-1.alert"
    assert await reports.receive(subject, monitor.report())
    said = {alert.key for alert in reports._last["monitor-1"][1]}
    assert said == {("member.dead", "host-1.example"), ("guest.silent", "web-1")}


SEEN = st.lists(
    st.tuples(st.floats(0.1, 30.0), st.sets(st.integers(0, 100), max_size=90)), max_size=40
)


@given(SEEN, st.floats(0.0, 60.0))
def test_each_alert_comes_after_its_hold_and_goes_after_its_calm(
    seen: list[tuple[float, set[int]]], hold: float
) -> None:
    alerts = Alerts()
    now, since, last_wrong, up = 0.0, {}, {}, set()
    for pause, subjects in seen:
        now += pause
        wrong = [Wrong("a.b", f"s{one}", "it is so", hold) for one in sorted(subjects)]
        since = {one.key: since.get(one.key, now) for one in wrong}
        for change in alerts.update(wrong, now):
            key = change.wrong.key
            if change.raised:
                assert key not in up
                assert now - since[key] >= hold
                up.add(key)
            else:
                assert key in up
                assert key not in since
                assert now - last_wrong[key] >= CLEAR_SECONDS
                up.remove(key)
        last_wrong.update({one.key: now for one in wrong})
        assert {one.key for one in alerts.raised} == up
        assert len(up) <= ALERTS_MAX
