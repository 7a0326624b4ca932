"""Watches, from outside, that an exclusive guest never has two copies at one moment."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from benchmarks.processes import machines_of
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
        self._threads = ThreadPoolExecutor(1, "watch of the exclusive guest")
        self._watching: Future[None]

    def start(self) -> None:
        """Begin."""
        self._watching = self._threads.submit(self._watch)

    def stop(self) -> None:
        """End; raises what the watch did, which then saw nothing more."""
        self._over.set()
        self._threads.shutdown()
        self._watching.result()

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
        if not last:
            self.wrong.append("it was never seen")

    def _copies_on(self, host: str) -> int:
        """None on a host that stands still or has no power: what does not run does nothing."""
        try:
            group = self._cluster.lab.control_group(host)
            if "frozen 1" in (group / "cgroup.events").read_text():
                return 0
            units = {one.unit for one in machines_of(group) if one.unit.startswith(self._prefix)}
        except (OSError, LabError):
            return 0
        return len(units)
