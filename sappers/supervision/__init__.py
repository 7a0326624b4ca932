"""Processes that outlive the agent: systemd units, or detached processes.

choose_supervisor(folder) -> Supervisor     systemd for an agent that it started, else detached ones
"""

from __future__ import annotations

import os
from pathlib import Path

from sappers.ports import Supervisor
from sappers.supervision.detached import DetachedSupervisor
from sappers.supervision.systemd import SystemdSupervisor


def choose_supervisor(folder: Path) -> Supervisor:
    """The supervisor that fits this agent; `folder` is where a detached one keeps its records.

    Units have names that are unique on a host, and their starting takes root. So systemd is for the
    one agent of a host that it started itself; those started by hand may be several.
    """
    if "NOTIFY_SOCKET" in os.environ and Path("/run/systemd/system").exists():
        return SystemdSupervisor()
    return DetachedSupervisor(folder)


__all__ = ["DetachedSupervisor", "SystemdSupervisor", "choose_supervisor"]
