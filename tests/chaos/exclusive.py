"""Watches, from outside, that an exclusive guest never has two copies at one moment."""

from __future__ import annotations

import threading
import time

from benchmarks.processes import guests_of
from sappers.errors import LabError
from tests.e2e.lab_cluster import LabCluster

_LOOK_SECONDS = 0.1


class ExclusiveWatch:
    """Counts the workload's QEMU processes on all hosts, in a thread, from `start` to `stop`.

    Attributes:
        wrong: Each moment at which there was more than one, in words.
        moves: How often it was seen on another host than before.
    """

    def __init__(self, cluster: LabCluster, workload: str) -> None:
        self.wrong: list[str] = []
        self.moves = 0
        self._cluster = cluster
        self._prefix = f"sappers-guest-{workload}-"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch of the exclusive guest")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        last = ""
        hosts = self._cluster.hosts()
        while not self._over.wait(_LOOK_SECONDS):
            running = [host for host in hosts for _ in range(self._copies_on(host))]
            if len(running) > 1:
                self.wrong.append(f"at {time.time():.1f} it ran on {' and '.join(running)}")
            elif running and running[0] != last:
                self.moves += bool(last)
                last = running[0]

    def _copies_on(self, host: str) -> int:
        """None on a host that stands still or has no power: what does not run does nothing."""
        try:
            group = self._cluster.lab.control_group(host)
            if "frozen 1" in (group / "cgroup.events").read_text():
                return 0
            units = {
                guest.unit for guest in guests_of(group) if guest.unit.startswith(self._prefix)
            }
        except (OSError, LabError):
            return 0
        return len(units)
