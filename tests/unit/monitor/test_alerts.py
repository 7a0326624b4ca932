"""Alerts: raised when something is wrong for long enough, cleared when it is right again."""

from __future__ import annotations

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
from gathered import Gathered
from hypothesis import given
from hypothesis import strategies as st
from monitor import Monitor

from sappers.agent.alert_reports import AlertReports
from sappers.agent.refusals import Refusals
from tests.unit.agent.test_refusals import FixedClock
from tests.unit.monitor.test_gathered import event, push


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
    gathered.event(event("repair.failed", "r-1"), 0.0)
    gathered.event(event("member.joined", "m2"), 0.0)
    first = {("member.dead", "m1"), ("allocation.failed", "web-1"), ("repair.failed", "r-1")}
    assert kinds(gathered, 1.0) == first
    gathered.event(event("member.alive", "m1"), 2.0)
    assert kinds(gathered, 400.0) == {("repair.failed", "r-1")}


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
