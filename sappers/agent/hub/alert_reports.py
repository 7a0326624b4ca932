"""What the monitor guest of this host says is wrong, on its way to the log.

The monitor says all that is wrong now, again and again, so a report that is lost costs nothing;
what is committed is only the difference to what the cluster knows.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from sappers.agent.hub.bucket import Bucket
from sappers.agent.hub.guest_words import read_words
from sappers.decisions.alerts import reconcile_alerts
from sappers.model import subjects
from sappers.model.alert import ALERTS_KEPT, Alert
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command
from sappers.model.refusal import RefusalKind
from sappers.ports import Clock, Refusals

REPORT_BYTES_MAX = 32 * 1024
# A monitor that says something else each time does not fill the log with it.
PROPOSALS_PER_SECOND, PROPOSALS_AT_ONCE = 0.2, 5
STALE_SECONDS = 30.0

_Kind = Annotated[str, Meta(pattern=r"^[a-z][a-z.-]{0,40}\Z")]
_Subject = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,100}\Z")]
_Text = Annotated[str, Meta(min_length=1, max_length=200)]


class _Said(msgspec.Struct, frozen=True):
    """One alert as the monitor sends it."""

    kind: _Kind
    subject: _Subject
    text: _Text


class _Report(msgspec.Struct, frozen=True):
    """All that is wrong by the monitor's word."""

    alerts: tuple[_Said, ...]


class AlertReports:
    """The last report of each monitor on this host."""

    def __init__(self, clock: Clock, refusals: Refusals) -> None:
        self._clock = clock
        self._refusals = refusals
        self._last: dict[str, tuple[float, tuple[Alert, ...]]] = {}
        self._bucket = Bucket(PROPOSALS_PER_SECOND, PROPOSALS_AT_ONCE)

    async def receive(self, subject: str, payload: bytes) -> bool:
        """Take one message of a guest's alert subject; whether it is another word than before."""
        allocation_id = subjects.allocation_of(subject)
        report = read_words(payload, _Report, REPORT_BYTES_MAX, allocation_id, self._refusals)
        if report is None:
            return False
        if len(report.alerts) > ALERTS_KEPT:
            self._refusals.count(RefusalKind.ALERT, allocation_id, len(report.alerts) - ALERTS_KEPT)
        alerts = tuple(
            Alert(said.kind, said.subject, said.text) for said in report.alerts[:ALERTS_KEPT]
        )
        before = self._last.get(allocation_id)
        self._last[allocation_id] = (self._clock.monotonic(), alerts)
        return before is None or before[1] != alerts

    def plan(self, state: ClusterState) -> tuple[Command, ...]:
        """What is to be proposed now; what is held back comes out of a later call."""
        now = self._clock.monotonic()
        for allocation_id, (at, alerts) in self._last.items():
            if now - at > STALE_SECONDS:
                continue
            commands = reconcile_alerts(state, allocation_id, alerts)
            if commands and self._bucket.take(now):
                return commands
        return ()

    def keep_only(self, allocation_ids: set[str]) -> None:
        """Forget guests that are not on this host any more."""
        for allocation_id in self._last.keys() - allocation_ids:
            del self._last[allocation_id]
