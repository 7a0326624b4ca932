"""How long a guest is away that was killed, or that hangs."""

from __future__ import annotations

import os
import signal
import time
from statistics import median

from benchmarks.figures import Row, Section, spread
from benchmarks.processes import Process, guests_of
from benchmarks.rig import REST_SECONDS, Rig
from sappers.model.allocation import Allocation, AllocationStatus

RUNS = 3
WORKLOAD = "bench-recovery"
_LOOK_SECONDS = 0.05
_GIVE_UP_SECONDS = 180.0
_DEADS = {
    "killed": (signal.SIGKILL, "Guest killed (`kill -9` of its QEMU)"),
    "hung": (signal.SIGSTOP, "Guest hung (its processor stands still, pushes stop)"),
}


def measure(rig: Rig) -> list[Section]:
    """Needs hello built; the cluster is whole before each run."""
    sections = []
    for name, (number, title) in _DEADS.items():
        runs = []
        for turn in range(RUNS):
            rig.say(f"guest {name}, {turn + 1} of {RUNS}")
            runs.append(_one(rig, number))
        rows = [
            Row(
                f"healthy again, min / median / max of {RUNS}",
                spread(runs),
                number=median(runs),
                unit="s",
            )
        ]
        notes = (
            "From the signal until its member reports it healthy, on the same member. Without a "
            "push a guest is unhealthy after 10 s, and restarted after 20 s.",
        )
        sections.append(Section(title, rows, notes))
    return sections


def _one(rig: Rig, number: signal.Signals) -> float:
    """Seconds until it is healthy again."""
    rig.deploy("run", WORKLOAD, "--image", "hello", "--port", "8080")
    try:
        time.sleep(REST_SECONDS)
        before = _allocation(rig)
        began = time.monotonic()
        os.kill(_process(rig, before.id).pid, number)
        while time.monotonic() - began < _GIVE_UP_SECONDS:
            now = _allocation(rig)
            if now.id != before.id:
                raise RuntimeError(f"{before.id} was replaced by {now.id}")
            if now.restarts > before.restarts and now.status is AllocationStatus.HEALTHY:
                return time.monotonic() - began
            time.sleep(_LOOK_SECONDS)
        raise RuntimeError(f"{before.id} did not come back within {_GIVE_UP_SECONDS:.0f} s")
    finally:
        rig.deploy("stop", WORKLOAD)


def _allocation(rig: Rig) -> Allocation:
    with rig.client() as client:
        live = [
            one
            for one in client.view().allocations
            if one.workload == WORKLOAD and not one.status.is_terminal
        ]
    return live[0]


def _process(rig: Rig, allocation_id: str) -> Process:
    for host in rig.endpoints():
        for record, guest in guests_of(rig.lab.control_group(host)):
            if record.allocation_id == allocation_id:
                return guest
    raise LookupError(allocation_id)
