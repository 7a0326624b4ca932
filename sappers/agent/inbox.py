"""The health inbox: the last push of each guest, with the time it came in."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sappers.model import subjects
from sappers.model.observation import HealthPush
from sappers.ports import Clock

REASON_LENGTH_MAX = 200


class _Push(msgspec.Struct, frozen=True):
    """A push as the sidecar sends it."""

    healthy: bool
    reason: str = ""
    boot_id: str = ""
    sequence: int = 0


class HealthInbox:
    """Keeps the last push of each guest; implements `ports.HealthInbox`.

    What a guest says is taken as that guest's word only: the hub lets each publish below its own
    subject alone. A push that cannot be read is counted and dropped.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, HealthPush] = {}
        self.dropped = 0

    def last(self) -> Mapping[str, HealthPush]:
        """By allocation id."""
        return dict(self._last)

    async def receive(self, subject: str, payload: bytes) -> bool:
        """Take one message of a guest's health subject; whether it says something new."""
        try:
            push = msgspec.json.decode(payload, type=_Push)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.dropped += 1
            return False
        allocation_id = subjects.allocation_of(subject)
        now = self._clock.monotonic()
        before = self._last.get(allocation_id)
        healthy_at = now if push.healthy else None
        if not push.healthy and before and before.boot_id == push.boot_id:
            healthy_at = before.healthy_at
        self._last[allocation_id] = HealthPush(
            allocation_id=allocation_id,
            received_at=now,
            healthy=push.healthy,
            reason=push.reason[:REASON_LENGTH_MAX],
            boot_id=push.boot_id,
            healthy_at=healthy_at,
        )
        return before is None or (before.healthy, before.boot_id) != (push.healthy, push.boot_id)

    def keep_only(self, allocation_ids: set[str]) -> None:
        """Forget guests that are not on this host any more."""
        for allocation_id in self._last.keys() - allocation_ids:
            del self._last[allocation_id]
