"""Alerts: only the monitor's word counts, there are never too many, each comes and goes once."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.alerts import reconcile_alerts
from sappers.model.alert import ALERTS_KEPT, Alert
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state, encode_state
from sappers.model.commands import ClearAlert, RaiseAlert
from tests.unit import worlds
from tests.unit.worlds import commit, founded, with_allocations

SILENT = Alert("guest.silent", "hello-1", "it has pushed no health for over 15 s")


def allocation(name: str, **changes: object) -> Allocation:
    workload = name.partition("-")[0]
    made = worlds.allocation(name, workload=workload, status=AllocationStatus.HEALTHY)
    return msgspec.structs.replace(made, **{"role": "monitor", **changes})


def running(*allocations: Allocation) -> ClusterState:
    return with_allocations(founded(), *allocations)


def test_an_alert_is_raised_once_and_cleared_once_as_events() -> None:
    state = running(allocation("monitor-1"))
    state, raised = commit(state, RaiseAlert("monitor-1", SILENT), time=5.0)
    assert state.alerts == (msgspec.structs.replace(SILENT, raised_at=5.0),)
    assert [(e.kind, e.subject) for e in raised.events] == [("alert.raised", "hello-1")]
    state, again = commit(state, RaiseAlert("monitor-1", SILENT), time=6.0)
    assert (again.events, state.alerts[0].raised_at) == ((), 5.0)
    assert decode_state(encode_state(state)) == state
    clear = ClearAlert("monitor-1", SILENT.kind, SILENT.subject)
    state, cleared = commit(state, clear)
    assert state.alerts == ()
    assert [e.kind for e in cleared.events] == ["alert.cleared"]
    _, outcome = commit(state, clear)
    assert (outcome.refused, outcome.events) == ("", ())


@pytest.mark.parametrize(
    ("who", "speaker"),
    [
        ("nobody-1", allocation("monitor-1")),
        ("hello-1", allocation("hello-1", role="application")),
        ("monitor-1", allocation("monitor-1", status=AllocationStatus.FAILED)),
        ("monitor-1", allocation("monitor-1", wanted=False)),
    ],
)
def test_nobody_else_raises_or_clears(who: str, speaker: Allocation) -> None:
    state = running(speaker)
    for command in (RaiseAlert(who, SILENT), ClearAlert(who, "a", "b")):
        after, outcome = commit(state, command)
        assert "is not the monitor" in outcome.refused
        assert after.alerts == ()


def test_while_there_is_a_monitor_nobody_clears_in_its_place() -> None:
    state, _ = commit(running(allocation("monitor-1")), RaiseAlert("monitor-1", SILENT))
    after, outcome = commit(state, ClearAlert("", SILENT.kind, SILENT.subject))
    assert (outcome.refused, len(after.alerts)) == ("nobody is not the monitor", 1)


def test_of_two_monitors_the_healthy_one_speaks_then_the_newer() -> None:
    old = allocation("monitor-1")
    new = allocation("monitor-2", revision=2, status=AllocationStatus.STARTING)
    assert running(old, new).monitor() == old
    new = msgspec.structs.replace(new, status=AllocationStatus.HEALTHY)
    assert running(old, new).monitor() == new


NAMES = st.sampled_from([f"hello-{n}" for n in range(90)])
REPORTS = st.lists(st.tuples(st.sampled_from(["guest.silent", "member.dead"]), NAMES), max_size=90)


@given(st.lists(REPORTS, max_size=4))
def test_the_state_follows_the_reports_and_is_bounded(reports: list[list[tuple[str, str]]]) -> None:
    state = running(allocation("monitor-1"))
    for report in reports:
        alerts = [Alert(kind, subject, "it is so") for kind, subject in report]
        commands = reconcile_alerts(state, "monitor-1", alerts)
        state, outcome = commit(state, *commands)
        assert not outcome.refused
        assert len(state.alerts) <= ALERTS_KEPT
        wanted = {alert.key for alert in alerts[:ALERTS_KEPT]}
        assert {alert.key for alert in state.alerts} == wanted
        assert reconcile_alerts(state, "monitor-1", alerts) == ()
        assert reconcile_alerts(state, "hello-1", alerts) == ()
