"""The workloads that a cluster runs for itself: today the monitor. Pure."""

from __future__ import annotations

import msgspec

from sappers.model.cluster_state import ClusterState
from sappers.model.commands import ClearAlert, Command, PutSystemWorkload
from sappers.model.workload import MONITOR, MONITOR_IMAGES, ImageReference, Workload

MONITOR_PORT = 9100
MONITOR_MEMORY_MIB = 128


def plan_system_workloads(state: ClusterState) -> tuple[Command, ...]:
    """Run a monitor once there is an image for it, and the newest such image from then on.

    What an operator stopped, or runs under that name as an application, is left alone.
    """
    return (*_keep_monitor(state), *_clear_alerts(state))


def _keep_monitor(state: ClusterState) -> tuple[Command, ...]:
    image = state.newest_guest_image(*MONITOR_IMAGES)
    if image is None or MONITOR in state.stopped_by_hand:
        return ()
    wanted = ImageReference(image.name, image.digest)
    running = state.workloads.get(MONITOR)
    if running is None:
        workload = Workload(
            name=MONITOR,
            image=wanted,
            memory_mib=MONITOR_MEMORY_MIB,
            guest_port=MONITOR_PORT,
            role="monitor",
        )
        return (PutSystemWorkload(workload),)
    if running.role != "monitor" or running.image == wanted:
        return ()
    return (PutSystemWorkload(msgspec.structs.replace(running, image=wanted)),)


def _clear_alerts(state: ClusterState) -> tuple[Command, ...]:
    """Without a monitor nobody says that something is right again."""
    wanted = any(workload.role == "monitor" for workload in state.workloads.values())
    if wanted or state.monitor() is not None:
        return ()
    return tuple(ClearAlert("", alert.kind, alert.subject) for alert in state.alerts)
