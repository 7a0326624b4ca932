"""News: wakes everyone who waits for the next change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class News:
    """Any number of listeners; each misses nothing, and many changes at once count as one."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()

    def tell(self) -> None:
        """Something changed."""
        for listener in self._listeners:
            listener.set()

    async def listen(self) -> AsyncIterator[None]:
        """Yields after each change since the iteration began."""
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            while True:
                await event.wait()
                event.clear()
                yield
        finally:
            self._listeners.discard(event)
