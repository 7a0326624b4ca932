"""What the hub's servers refused to guests: each server's member tells, each guest's member counts.

A server knows a guest by a public key that it has verified; only the member that made the
credentials knows which guest that is.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sappers.model import subjects
from sappers.model.refusal import RefusalKind
from sappers.ports import HubClient, HubViolations, Refusals

PAYLOAD_BYTES_MAX = 16 * 1024


class HubWatch:
    """Passes on what this member's server refused, and counts what any refused to guests here.

    Args:
        violations: What this member's server refused.
        holder: Whose a public key is, if this member made it.
    """

    def __init__(
        self,
        *,
        hub: HubClient,
        violations: HubViolations,
        holder: Callable[[str], str | None],
        refusals: Refusals,
    ) -> None:
        self._hub = hub
        self._violations = violations
        self._holder = holder
        self._refusals = refusals

    async def tell(self) -> None:
        """Pass on what is new; lost where the hub is away, as it only counts."""
        if found := self._violations.new():
            await self._hub.publish(subjects.REFUSED, msgspec.json.encode(found))

    async def receive(self, _: str, payload: bytes) -> None:
        """Take what a member's server refused."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            return
        try:
            found = msgspec.json.decode(payload, type=dict[str, int])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        for user, count in found.items():
            if holder := self._holder(user):
                self._refusals.count(RefusalKind.HUB, holder, count)
