"""Memory and idle CPU of everything of ours that runs on each host."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Row, Section
from benchmarks.processes import Process, agent_of, hub_of, raft_of
from benchmarks.rig import REST_SECONDS, Rig

IDLE_SECONDS = 30.0
AGENT_MIB, RAFT_MIB, CPU_PERCENT = 80.0, 40.0, 2.0

_KINDS: dict[str, tuple[Callable[[Path], Process], float | None]] = {
    "agent": (agent_of, AGENT_MIB),
    "raft process": (raft_of, RAFT_MIB),
    "nats-server": (hub_of, None),
}


def measure(rig: Rig) -> list[Section]:
    """A cluster at rest, without guests."""
    with rig.client() as client:
        rig.await_whole(client)
        time.sleep(REST_SECONDS)
        view = rig.await_whole(client)
    roles = {one.member.name: one.role for one in view.members}
    rig.say(f"watching an idle cluster for {IDLE_SECONDS:.0f} s")
    found = {
        (host, kind): find(rig.lab.control_group(host))
        for host in sorted(roles)
        for kind, (find, _) in _KINDS.items()
    }
    before = {key: process.cpu_seconds for key, process in found.items()}
    began = time.monotonic()
    time.sleep(IDLE_SECONDS)
    elapsed = time.monotonic() - began
    cpu = {key: (found[key].cpu_seconds - before[key]) / elapsed * 100 for key in found}
    rows: list[Row] = []
    for host, role in roles.items():
        for kind, (_, limit) in _KINDS.items():
            process = found[host, kind]
            met = None if limit is None else process.rss_mib * 2**20 <= limit * 1e6
            rows.append(
                Row(
                    f"{kind} on {host} ({role})",
                    f"RSS {process.rss_mib * 1.048576:.0f} MB, PSS "
                    f"{process.pss_mib * 1.048576:.0f} MB, CPU {cpu[host, kind]:.1f} %",
                    "" if limit is None else f"RSS ≤ {limit:g} MB",
                    met,
                )
            )
        both = cpu[host, "agent"] + cpu[host, "raft process"]
        rows.append(
            Row(
                f"agent and raft process on {host}",
                f"CPU {both:.1f} %",
                f"≤ {CPU_PERCENT:g} %",
                met=both <= CPU_PERCENT,
            )
        )
    notes = (
        f"CPU over {elapsed:.0f} s without guests, in percent of one core.",
        "The hosts share this machine's copy of Python, so PSS is lower than on a host alone.",
    )
    return [Section("Memory and idle CPU", rows, notes)]
