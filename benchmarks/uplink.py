"""The way from this machine to a lab's hosts: made narrow, and what went over it counted.

What this machine sends leaves through the lab's bridge itself; what hosts send to each other only
passes from one of its ports to another. So a queue on the bridge shapes the former alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sappers.lab.plan import LabPlan


@contextmanager
def shaped(plan: LabPlan, mbit_per_second: float) -> Iterator[None]:
    """A block in which this machine sends to the lab no faster than that."""
    rate = f"{mbit_per_second:g}mbit"
    _tc("replace", plan.bridge, "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")
    try:
        yield
    finally:
        _tc("del", plan.bridge)


def sent_bytes(plan: LabPlan) -> int:
    """What this machine has sent to the lab so far, headers included."""
    return int(Path(f"/sys/class/net/{plan.bridge}/statistics/tx_bytes").read_text())


def _tc(action: str, device: str, *queue: str) -> None:
    subprocess.run(["tc", "qdisc", action, "dev", device, "root", *queue], check=True)
