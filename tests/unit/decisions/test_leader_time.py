"""Repairs while clocks differ and step: in time, and never before it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.healing import CLAIM_SECONDS, reconcile_repairs
from sappers.decisions.leader_time import LeaderTime
from sappers.decisions.suspicion import SETTLED_SECONDS, SURE_SECONDS, reconcile_suspicions
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command, SetSuspicion
from sappers.model.observation import MemberObservation, RaftRole, RaftStatus
from sappers.model.repair import RepairStatus
from sappers.model.repair_commands import AssignHealer, CloseRepair, FailAttempt, OpenRepair
from sappers.model.suspicion import SuspicionSource
from tests.unit.repair_worlds import died, healing_cluster, revived
from tests.unit.worlds import commit

EPOCH = 1_000_000_000.0
LED_SECONDS = 1000.0
TURN_SECONDS = 5.0

Plan = Callable[[LeaderTime], tuple[Command, ...]]
Changes = list[tuple[int, int]]

# How far a wall clock is ahead of the true time.
_ahead = st.one_of(st.integers(-400, 400), st.integers(-1_000_000, 1_000_000))
# After so many turns another clock counts: a new leader's, or the same one's after a step.
_changes = st.lists(st.tuples(st.integers(1, 40), _ahead), max_size=5)


def seconds_until(
    kind: type[Command], plan: Plan, ahead: int, changes: Changes, wait: float
) -> float:
    """True seconds until a command of this kind is planned; at most twice `wait` after a change.

    Args:
        plan: What a leader plans at a time.
        ahead: The clock of the leader that stamped what is waited for, as it did.
        changes: What becomes of that clock, each counted from the one before.
    """
    left = list(changes)
    seconds, changed_at, turns = 0.0, -LED_SECONDS, 0
    while seconds <= max(0.0, changed_at) + 2 * wait + TURN_SECONDS:
        if left and turns == left[0][0]:
            _, ahead = left.pop(0)
            changed_at, turns = seconds, 0
        time = LeaderTime(EPOCH + seconds + ahead, seconds - changed_at)
        if any(isinstance(one, kind) for one in plan(time)):
            return seconds
        seconds += TURN_SECONDS
        turns += 1
    raise AssertionError(f"not {2 * wait:g} s after clocks changed last, {changed_at:g}: {kind}")


@cache
def _healing() -> ClusterState:
    return healing_cluster()


@given(_ahead, _changes)
def test_a_repair_opens_in_time_and_never_early(ahead: int, changes: Changes) -> None:
    state = died(_healing(), "m2", EPOCH + ahead)
    seconds = seconds_until(
        OpenRepair, lambda time: reconcile_repairs(state, time), ahead, changes, SURE_SECONDS
    )
    assert seconds >= SURE_SECONDS
    if not changes:
        assert seconds == SURE_SECONDS


@given(_ahead, _changes)
def test_a_healer_has_its_time_and_no_more_than_twice(ahead: int, changes: Changes) -> None:
    now = EPOCH + ahead
    state = died(_healing(), "m2", now - SURE_SECONDS)
    for kind in (OpenRepair, AssignHealer):
        commands = reconcile_repairs(state, LeaderTime(now))
        assert [type(one) for one in commands] == [kind]
        state, outcome = commit(state, *commands, time=now)
        assert not outcome.refused
    seconds = seconds_until(
        FailAttempt, lambda time: reconcile_repairs(state, time), ahead, changes, CLAIM_SECONDS
    )
    assert seconds >= CLAIM_SECONDS
    if not changes:
        assert seconds == CLAIM_SECONDS


@given(_ahead, _changes)
def test_a_suspicion_settles_and_then_changes(ahead: int, changes: Changes) -> None:
    pulse = SetSuspicion("m2", (SuspicionSource.PULSE,), "test")
    state, _ = commit(_healing(), pulse, time=EPOCH + ahead)
    voters = ("m1", "m2", "m3")
    observed = MemberObservation(
        raft=RaftStatus(RaftRole.LEADER, 1, "m1", 9, 9, voters, {"m2": 99})
    )
    seconds = seconds_until(
        SetSuspicion,
        lambda time: reconcile_suspicions(state, observed, time),
        ahead,
        changes,
        SETTLED_SECONDS,
    )
    assert seconds >= SETTLED_SECONDS


def test_the_same_death_is_repaired_once_whatever_the_clock_said_when_it_was() -> None:
    state = died(_healing(), "m2", EPOCH)
    opened = reconcile_repairs(state, LeaderTime(EPOCH + SURE_SECONDS))
    state, _ = commit(state, *opened, time=EPOCH - 3600.0)  # the clock stepped back just then
    (first,) = state.repairs
    state, _ = commit(state, CloseRepair(first, RepairStatus.MOVED, "test"), time=EPOCH - 3500.0)
    assert reconcile_repairs(state, LeaderTime(EPOCH + 1000.0)) == ()


def test_a_repair_that_was_opened_in_the_future_hinders_none_today() -> None:
    state = died(_healing(), "m2", EPOCH + 3600.0)
    opened = reconcile_repairs(state, LeaderTime(EPOCH + 3700.0))
    state, _ = commit(state, *opened, time=EPOCH + 3700.0)
    (first,) = state.repairs
    state, _ = commit(state, CloseRepair(first, RepairStatus.RESTORED, "test"), time=EPOCH)
    state = died(revived(state, "m2", EPOCH + 5.0), "m2", EPOCH + 10.0)
    planned = reconcile_repairs(state, LeaderTime(EPOCH + 10.0 + 2 * SURE_SECONDS))
    assert [type(one) for one in planned] == [OpenRepair]
