"""The units of guests, as they were a moment ago.

Asking a supervisor takes a process, and the agent looks at its guests whenever anything changes:
several times while one of them starts, which needs the processors more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sappers.ports import Supervisor, UnitStatus

FRESH_SECONDS = 0.5


class GuestUnits:
    """What the supervisor said last; asked again once that is old, or we have changed something.

    Args:
        prefix: How the names of guests' units begin.
        now: Monotonic seconds.
    """

    def __init__(self, supervisor: Supervisor, prefix: str, now: Callable[[], float]) -> None:
        self._supervisor = supervisor
        self._prefix = prefix
        self._now = now
        self._changes = 0
        self._seen: tuple[float, Mapping[str, UnitStatus]] | None = None

    def changed(self) -> None:
        """A guest was started or stopped: what was seen before counts no more."""
        self._changes += 1
        self._seen = None

    async def look(self) -> Mapping[str, UnitStatus]:
        """By name; nothing in it is older than the last change of ours.

        Raises:
            SupervisorError: The supervisor does not say.
        """
        if self._seen is not None and self._now() - self._seen[0] < FRESH_SECONDS:
            return self._seen[1]
        while True:
            changes, began = self._changes, self._now()
            units = {unit.name: unit for unit in await self._supervisor.list(self._prefix)}
            if changes == self._changes:
                self._seen = began, units
                return units
