"""What the state machine does with alerts. Pure.

Invariant: only the monitor raises one, there are never more than `ALERTS_KEPT`, and each is there
once. Whoever is the monitor now speaks for all: it takes over what another one raised.
"""

from __future__ import annotations

import msgspec

from sappers.consensus.step import Happened, Step
from sappers.errors import CommandRefused
from sappers.model.alert import ALERTS_KEPT, Alert
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import AlertCommand, ClearAlert, RaiseAlert


def apply_alert_command(state: ClusterState, command: AlertCommand, time: float) -> Step:
    """One command about an alert.

    Raises:
        CommandRefused: It is not the monitor that speaks, or there are too many.
    """
    match command:
        case RaiseAlert(alert=alert):
            _require_monitor(state, command.allocation_id)
            return _raise(state, alert, time)
        case ClearAlert():
            if command.allocation_id or state.monitor() is not None:
                _require_monitor(state, command.allocation_id)
            return _clear(state, command)


def _require_monitor(state: ClusterState, allocation_id: str) -> None:
    monitor = state.monitor()
    if monitor is None or monitor.id != allocation_id:
        raise CommandRefused(f"{allocation_id or 'nobody'} is not the monitor")


def _raise(state: ClusterState, alert: Alert, time: float) -> Step:
    if any(known.key == alert.key for known in state.alerts):
        return state, ()
    if len(state.alerts) >= ALERTS_KEPT:
        raise CommandRefused(f"{ALERTS_KEPT} alerts are raised already")
    raised = msgspec.structs.replace(alert, raised_at=time)
    follows = tuple(f"{sort}/{alert.subject}" for sort in ("allocation", "member", "repair"))
    return (
        msgspec.structs.replace(state, alerts=(*state.alerts, raised)),
        (Happened("alert.raised", alert.subject, f"{alert.kind}: {alert.text}", follows),),
    )


def _clear(state: ClusterState, command: ClearAlert) -> Step:
    key = (command.kind, command.subject)
    cleared = next((alert for alert in state.alerts if alert.key == key), None)
    if cleared is None:
        return state, ()
    rest = tuple(alert for alert in state.alerts if alert is not cleared)
    why = "" if command.allocation_id else ", as there is no monitor any more"
    text = f"{cleared.kind} is over{why}; it was: {cleared.text}"
    return (
        msgspec.structs.replace(state, alerts=rest),
        (Happened("alert.cleared", cleared.subject, text),),
    )
