"""Why a guest does not run: from how its unit ended and from the events QEMU left behind.

A Linux guest that panics ends its QEMU with exit code 0, so the code alone says nothing. A Nanos
guest ends it with no event, and makes its own code n QEMU's code 2n + 1; what QEMU itself ends with
is 1, and then it says why.
"""

from __future__ import annotations

import re
import signal

import msgspec

from sappers.launchers import watchdog
from sappers.model.observation import GuestProcess
from sappers.ports import UnitStatus

_KILLED = 128
_REASON_CHARACTERS = 300
_REASONS = {
    "guest-shutdown": "the guest switched itself off",
    "guest-panic": "the guest panicked",
    "host-qmp-quit": "QEMU was told to quit",
    "host-signal": "QEMU was ended by a signal",
    "host-error": "QEMU met an error",
}
_KERNEL_STOPPED = {0x7D: "its debugger", 0x7E: "a fault", 0x7F: "a halt"}
_SIGNALS = {number.value: number.name for number in signal.Signals}
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


class Traces(msgspec.Struct, frozen=True):
    """What an ended guest left in its folder: the ends of three files."""

    events: str = ""
    serial: str = ""
    output: str = ""


def judge(allocation_id: str, unit: UnitStatus | None, traces: Traces) -> GuestProcess:
    """How the guest is.

    Args:
        allocation_id: Whose guest it is.
        unit: Its unit, or None when the supervisor knows none.
        traces: What is in its folder; looked at only when it does not run.
    """
    if unit is not None and unit.running:
        return GuestProcess(allocation_id, running=True, started_at=unit.started_at)
    started_at = unit.started_at if unit else None
    return GuestProcess(
        allocation_id, running=False, reason=reason_of(unit, traces), started_at=started_at
    )


def reason_of(unit: UnitStatus | None, traces: Traces) -> str:
    """Why it ended, one clause; part of it may be the guest's own words, so it is cut."""
    return _reason(unit, traces)[:_REASON_CHARACTERS]


def _reason(unit: UnitStatus | None, traces: Traces) -> str:
    why = _shutdown_reason(traces.events)
    if why == "guest-reset":  # with panic=-1 and -no-reboot nothing else resets
        found = _PANIC.search(traces.serial)
        return f"the guest panicked: {found[1].strip()}" if found else "the guest panicked"
    if why in _REASONS:
        return _REASONS[why]
    if unit is None or unit.exit_code is None:
        return "its process is gone"
    if unit.exit_code == watchdog.EXIT_CODE:
        return "its lease ended: its member had not heard of the quorum"
    if unit.exit_code >> 1 in _KERNEL_STOPPED:
        return _unikernel_panic(_KERNEL_STOPPED[unit.exit_code >> 1], traces.serial)
    if unit.exit_code > _KILLED:
        return f"QEMU was killed by signal {unit.exit_code - _KILLED}"
    output = traces.output.strip().splitlines()
    if unit.exit_code % 2 and not output:
        return _unikernel_end(unit.exit_code >> 1)
    return f"QEMU ended with exit code {unit.exit_code}" + (f": {output[-1]}" if output else "")


def _unikernel_end(code: int) -> str:
    """How the only program of a unikernel ended."""
    if code == 0:
        return _REASONS["guest-shutdown"]
    ended = f"the guest's program ended with exit code {code}"
    return f"{ended}, {_SIGNALS[code]}" if code in _SIGNALS else ended


def _unikernel_panic(why: str, serial: str) -> str:
    said = [line for line in serial.splitlines() if line.strip() and not line.startswith("{")]
    return f"the guest panicked: {why}" + (f": {said[-1].strip()[-200:]}" if said else "")


def _shutdown_reason(events: str) -> str:
    """The reason of the last SHUTDOWN event, or empty."""
    for line in reversed(events.splitlines()):
        if '"SHUTDOWN"' in line:
            try:
                return str(msgspec.json.decode(line)["data"]["reason"])
            except (ValueError, KeyError, TypeError, RecursionError):
                return ""  # a QEMU that a guest took over may write anything
    return ""
