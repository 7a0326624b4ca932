"""Why a guest ended: events before exit codes."""

from __future__ import annotations

import pytest

from sappers.launchers.verdict import Traces, judge
from sappers.ports import UnitStatus


def shutdown(reason: str) -> str:
    return (
        '{"QMP": {"version": {}}}\n{"return": {}}\n'
        '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", '
        f'"data": {{"guest": true, "reason": "{reason}"}}}}\n'
    )


def ended(code: int | None) -> UnitStatus:
    return UnitStatus("sappers-guest-a", running=False, exit_code=code, started_at=3.0)


PANIC = "[ 1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n[ 1.1] CPU"


@pytest.mark.parametrize(
    ("unit", "traces", "reason"),
    [
        (
            ended(0),
            Traces(shutdown("guest-reset"), PANIC),
            "the guest panicked: Attempted to kill init! exitcode=0x00000100",
        ),
        (ended(0), Traces(shutdown("guest-reset"), "cut off"), "the guest panicked"),
        (None, Traces(shutdown("guest-reset")), "the guest panicked"),
        (ended(0), Traces(shutdown("guest-shutdown")), "the guest switched itself off"),
        (ended(0), Traces(shutdown("host-signal")), "QEMU was ended by a signal"),
        (ended(137), Traces(), "QEMU was killed by signal 9"),
        (
            ended(1),
            Traces(output="a\nqemu: cannot set up guest memory\n"),
            "QEMU ended with exit code 1: qemu: cannot set up guest memory",
        ),
        (ended(0), Traces('{"event": "SHUTDOWN", "data": garbage'), "QEMU ended with exit code 0"),
        (ended(None), Traces(), "its process is gone"),
        (None, Traces(), "its process is gone"),
    ],
)
def test_reasons(unit: UnitStatus | None, traces: Traces, reason: str) -> None:
    guest = judge("a", unit, traces)
    assert not guest.running
    assert guest.reason == reason


def test_a_running_guest_has_no_reason() -> None:
    guest = judge("a", UnitStatus("sappers-guest-a", running=True, started_at=3.0), Traces())
    assert guest.running and guest.reason == "" and guest.started_at == 3.0


@pytest.mark.parametrize("rest", ["[" * 10_000, "no JSON", '"data": {"reason": "\ud800"}}'])
def test_events_that_make_no_sense_are_no_reason(rest: str) -> None:
    found = judge("a", None, Traces('{"event": "SHUTDOWN", ' + rest))
    assert found.reason == "its process is gone"


def test_what_a_guest_says_of_its_end_is_cut() -> None:
    panic = f"Kernel panic - not syncing: {'x' * 10_000}"
    assert len(judge("a", ended(0), Traces(shutdown("guest-reset"), panic)).reason) == 300
