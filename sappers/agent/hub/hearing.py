"""What guests say to this member: its own ones their health and alerts, all of them their calls."""

from __future__ import annotations

from collections.abc import Callable

from sappers.agent.hub.alert_reports import AlertReports
from sappers.agent.hub.durable import DurableCalls
from sappers.agent.hub.guest_ear import GuestEar, guests_to_hear, guests_who_ask
from sappers.agent.hub.inbox import HealthInbox
from sappers.model import subjects
from sappers.model.cluster_state import ClusterState
from sappers.ports import Clock, HubClient, Refusals


class Hearing:
    """Listens to those who should be heard, and hands on what they say.

    Args:
        calls: What any guest may ask of any member.
        wake: Called when a guest of this host says something new.

    Attributes:
        inbox: The last push of each guest of this host.
        alerts: What the monitor says, where it is a guest of this host.
    """

    def __init__(
        self,
        *,
        me_id: str,
        clock: Clock,
        hub: HubClient,
        refusals: Refusals,
        calls: DurableCalls,
        wake: Callable[[], None],
    ) -> None:
        self._me_id = me_id
        self._wake = wake
        self.inbox = HealthInbox(clock, refusals)
        self.alerts = AlertReports(clock, refusals)
        self._ear = GuestEar(clock=clock, hub=hub, refusals=refusals, hear=self._hear)
        self._calls = calls.served_by(hub)

    async def attend(self, state: ClusterState) -> None:
        """Listen to the guests that the state has, and to no other."""
        await self._ear.attend(guests_to_hear(state, self._me_id))
        await self._calls.attend(guests_who_ask(state))

    async def _hear(self, subject: str, payload: bytes) -> None:
        alerts = subject == subjects.guest_alert(subjects.allocation_of(subject))
        box = self.alerts if alerts else self.inbox
        if await box.receive(subject, payload):
            self._wake()

    def keep_only(self, allocation_ids: set[str]) -> None:
        """Forget guests that are not on this host any more."""
        self.inbox.keep_only(allocation_ids)
        self.alerts.keep_only(allocation_ids)
