"""Bare hosts to a cluster, phase by phase; and the same command again, with nothing to do."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, Section, at_most, spread
from benchmarks.rig import Rig
from sappers.assembly.deploy import deploy_wiring
from sappers.provisioner.bootstrap.plan import plan_cluster
from sappers.provisioner.bootstrap.resolve import resolve_address
from sappers.provisioner.connection.ssh import Connection
from sappers.provisioner.inventory.inventory import load_inventory

AGAIN_RUNS = 3
AGAIN_SECONDS_MAX = 5.0
PUSHED_BYTES = 100_000_000


def measure(rig: Rig) -> list[Section]:
    """Needs hosts that nothing was installed on."""
    bundle = _bundle_row(rig)
    rig.say("building hello, or finding it built")
    rig.deploy("image", "build", "hello")
    rig.say("first bootstrap")
    report, first_seconds = rig.bootstrap()
    rows = [bundle, *_phases(report), Row("whole command, three hosts", f"{first_seconds:.1f} s")]
    rig.say("second bootstrap")
    again = [_again(rig) for _ in range(AGAIN_RUNS)]
    rows += [
        at_most(
            f"again, nothing to do (slowest of {AGAIN_RUNS})", max(again), AGAIN_SECONDS_MAX, "s"
        ),
        Row("again: min / median / max", spread(again)),
        *_push(rig),
    ]
    notes = (
        "A phase's figure is its slowest host's; hosts are worked on side by side.",
        "Packages come through a caching proxy on this machine.",
    )
    return [Section("Bootstrap", rows, notes)]


def _bundle_row(rig: Rig) -> Row:
    rig.say("building the agent's bundle, or finding it built")
    told: list[str] = []
    plan = plan_cluster(load_inventory(rig.lab.inventory), resolve_address)
    with deploy_wiring(rig.home, plan) as needs:
        began = time.monotonic()
        needs.build_bundle(told.append)
    how = "built" if told else "found in the cache"
    return Row(f"the agent's bundle, {how}", f"{time.monotonic() - began:.1f} s")


def _phases(report: dict[str, Any]) -> list[Row]:
    seconds: dict[str, float] = {}
    for host in report["hosts"].values():
        for phase in host["phases"]:
            title = phase["title"]
            seconds[title] = max(seconds.get(title, 0.0), phase["seconds"])
    return [Row(f"phase {title}", f"{value:.1f} s") for title, value in seconds.items()]


def _again(rig: Rig) -> float:
    report, seconds = rig.bootstrap()
    if report["changed"]:
        raise RuntimeError("a bootstrap with nothing to do changed something")
    return seconds


def _push(rig: Rig) -> list[Row]:
    """A file of 100 MB to one host: our channel beside scp, both to the host's memory."""
    host = load_inventory(rig.lab.inventory).hosts[0]
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.urandom(PUSHED_BYTES))
        file.flush()
        with Connection.open(host) as connection:
            executor = connection.start_executor()
            began = time.monotonic()
            executor.write_file("/dev/shm/ours", Path(file.name))
            ours = time.monotonic() - began
        ssh = rig.lab.ssh_command(host.name)
        began = time.monotonic()
        subprocess.run(["scp", "-q", *ssh[1:-1], file.name, f"{ssh[-1]}:/dev/shm/scp"], check=True)
        scp = time.monotonic() - began
    return [
        Row("pushing 100 MB, digest checked", f"{ours:.1f} s"),
        Row("the same with scp, login included", f"{scp:.1f} s"),
    ]
