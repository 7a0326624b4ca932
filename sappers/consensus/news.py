"""News: wakes everyone who waits for the next change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class News:
    """Any number of listeners; each misses nothing, and many changes at once count as one."""

    def __init__(self) -> None:
        # In order, not a set: objects hash by address, and who wakes first would be chance.
        self._listeners: dict[asyncio.Event, None] = {}

    def tell(self) -> None:
        """Something changed."""
        for listener in self._listeners:
            listener.set()

    async def listen(self) -> AsyncIterator[None]:
        """Yields after each change since the iteration began."""
        event = asyncio.Event()
        self._listeners[event] = None
        try:
            while True:
                await event.wait()
                event.clear()
                yield
        finally:
            del self._listeners[event]
