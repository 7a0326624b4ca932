"""Processes that outlive the agent: systemd units, or detached processes.

choose_supervisor(folder) -> Supervisor     systemd where it runs, detached processes elsewhere
"""

from __future__ import annotations

from pathlib import Path

from sappers.ports import Supervisor
from sappers.supervision.detached import DetachedSupervisor
from sappers.supervision.systemd import SystemdSupervisor


def choose_supervisor(folder: Path) -> Supervisor:
    """The supervisor that fits this host; `folder` is where a detached one keeps its records."""
    if Path("/run/systemd/system").exists():
        return SystemdSupervisor()
    return DetachedSupervisor(folder)


__all__ = ["DetachedSupervisor", "SystemdSupervisor", "choose_supervisor"]
