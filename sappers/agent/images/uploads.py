"""Uploads: how many chunks this member sends to others at one time, and how fast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sappers.agent.images.rate import Rate
from sappers.errors import MemberBusy

# Members ask for the next chunk the moment that one has come: a short queue keeps the line full.
PATIENCE_SECONDS = 1.0
RETRY_AFTER_SECONDS = 1


class Uploads:
    """Slots for uploads. As many calls again may wait a moment for one; more are refused."""

    def __init__(self, at_once: int, rate: Rate) -> None:
        self._at_once = at_once
        self._slots = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._rate = rate
        self.refused = 0
        self.bytes_sent = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A slot for the block.

        Raises:
            MemberBusy: There is none, and none comes free soon.
        """
        if self._slots.locked() and self._waiting >= self._at_once:
            raise self._busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise self._busy() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def send(self, count: int) -> None:
        """Return when so many bytes may go."""
        await self._rate.take(count)
        self.bytes_sent += count

    def _busy(self) -> MemberBusy:
        self.refused += 1
        return MemberBusy(
            f"{self._at_once} chunks are being sent already",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
