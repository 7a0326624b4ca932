"""A bound on bytes per second, kept by waiting."""

from __future__ import annotations

import asyncio

from sappers.ports import Clock

BURST_SECONDS = 0.25


class Rate:
    """Bytes in the order they were asked for; after a pause, a burst of `BURST_SECONDS` at once."""

    def __init__(self, mbit_per_second: float, clock: Clock) -> None:
        """`mbit_per_second` 0 is no bound."""
        self._bytes_per_second = mbit_per_second * 125_000.0
        self._clock = clock
        self._free_at = float("-inf")

    def reserve(self, count: int) -> float:
        """Take the next `count` bytes; seconds to wait before they may go."""
        if not self._bytes_per_second:
            return 0.0
        now = self._clock.monotonic()
        start = max(self._free_at, now - BURST_SECONDS)
        self._free_at = start + count / self._bytes_per_second
        return max(0.0, start - now)

    def give_back(self, count: int) -> None:
        """Some of what was reserved was not needed."""
        if self._bytes_per_second:
            self._free_at -= count / self._bytes_per_second

    async def take(self, count: int) -> None:
        """Return when `count` bytes may go."""
        if (delay := self.reserve(count)) > 0:
            await asyncio.sleep(delay)
