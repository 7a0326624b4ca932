"""What the monitor says is wrong, against what the cluster has agreed is wrong. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sappers.model.alert import ALERTS_KEPT, Alert
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import ClearAlert, Command, RaiseAlert


def reconcile_alerts(
    state: ClusterState, allocation_id: str, reported: Sequence[Alert]
) -> tuple[Command, ...]:
    """The commands that make the cluster's alerts those that a guest reports; empty when it is
    not the monitor.

    Args:
        state: This member's state.
        allocation_id: The guest that reports.
        reported: All that it says is wrong now; of too many the first count.
    """
    monitor = state.monitor()
    if monitor is None or monitor.id != allocation_id:
        return ()
    wanted = {alert.key: alert for alert in reversed(reported[:ALERTS_KEPT])}
    known = {alert.key for alert in state.alerts}
    return (
        *(
            ClearAlert(allocation_id, alert.kind, alert.subject)
            for alert in state.alerts
            if alert.key not in wanted
        ),
        *(
            RaiseAlert(allocation_id, alert)
            for key, alert in sorted(wanted.items())
            if key not in known
        ),
    )
