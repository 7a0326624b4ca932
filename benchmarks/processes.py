"""The processes of a lab host, seen from this machine: whose they are, memory, CPU, start."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sappers.launchers.guest_folder import SPARE_PREFIX, UNIT_PREFIX, Record

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process by its id on this machine, and the systemd unit of the host that it belongs to."""

    pid: int
    unit: str
    command: tuple[str, ...]

    @property
    def rss_mib(self) -> float:
        """Memory in MiB, shared pages counted in full."""
        return self._rollup("Rss")

    @property
    def pss_mib(self) -> float:
        """Memory in MiB, shared pages counted by share."""
        return self._rollup("Pss")

    @property
    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND

    @property
    def started_at(self) -> float:
        """When it was forked, by `time.monotonic`; 5 ms exact."""
        since_boot = (int(self._stat()[19]) + 0.5) / _TICKS_PER_SECOND  # within that tick
        return since_boot - (time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic())

    def guest_record(self) -> Record | None:
        """What its agent wrote down of a guest; None of a spare, which is none, or when it ends."""
        try:
            # Its folder has another name than it began with, if it was a spare.
            text = Path(f"/proc/{self.pid}/cwd/../record.json").read_bytes()
            record = msgspec.json.decode(text, type=Record)
        except (OSError, msgspec.DecodeError):
            return None
        return None if self.unit.startswith(SPARE_PREFIX) and not record.unit else record

    def _stat(self) -> Sequence[str]:
        """Fields of `stat`, from the third on: the second may contain blanks."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()

    def _rollup(self, name: str) -> float:
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
        raise LookupError(name)


def processes_of(group: Path) -> Iterator[Process]:
    """All processes below a control group that belong to a unit of the host."""
    for procs in group.glob("payload/system.slice/*.service/cgroup.procs"):
        for pid in map(int, procs.read_text().split()):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except FileNotFoundError:
                continue
            yield Process(pid, procs.parent.name.removesuffix(".service"), tuple(command))


def agent_of(group: Path) -> Process:
    """The agent's own process."""
    return _one(group, "sappers", raft=False)


def raft_of(group: Path) -> Process:
    """The agent's raft process."""
    return _one(group, "sappers", raft=True)


def hub_of(group: Path) -> Process:
    """The hub server."""
    return _one(group, "sappers-hub", raft=False)


def guests_of(group: Path) -> Iterator[tuple[Record, Process]]:
    """Guests, from the moment that they are QEMU, with what is known of each."""
    for process in machines_of(group):
        if record := process.guest_record():
            yield record, process


def spares_of(group: Path) -> Iterator[Process]:
    """Machines that stand still until they are guests."""
    for process in machines_of(group):
        if process.unit.startswith(SPARE_PREFIX) and process.guest_record() is None:
            yield process


def machines_of(group: Path) -> Iterator[Process]:
    """All QEMUs of guests and spares, whatever is known of them."""
    for process in processes_of(group):
        if process.unit.startswith(UNIT_PREFIX) and "qemu" in process.command[0]:
            yield process


def _one(group: Path, unit: str, *, raft: bool) -> Process:
    for process in processes_of(group):
        is_raft = "sappers.consensus.process" in process.command
        if process.unit == unit and is_raft == raft:
            return process
    raise LookupError(f"{group.name}: no process of {unit}")
