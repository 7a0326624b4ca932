"""Facts of a host that can be a member."""

from __future__ import annotations

from sappers.provisioner.executor.facts import Facts, Listener

FIT = Facts(
    architecture="x86_64",
    python_version=(3, 11, 2),
    python_path="/usr/bin/python3",
    free_disk_mib={"/var": 5000, "/opt": 5000},
    clock_offset_seconds=0.0,
    clock_uncertainty_seconds=0.01,
    listeners=(Listener("tcp", "0.0.0.0", 22, "sshd"),),
    is_root=True,
    systemd=True,
    packages={},
    addresses=("10.0.0.1",),
    machine_id="m",
)
