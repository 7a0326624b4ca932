"""Threads for images: hashing, unpacking and blocking sockets, away from the agent's loop.

They are their own: a slow disk or a stalled member holds up images, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from sappers.agent.images.heap import give_back_free_memory

_P = ParamSpec("_P")
_T = TypeVar("_T")

_REST_SECONDS = 2.0


class ImageThreads:
    """A bounded number of threads.

    Args:
        at_rest: Called in one of them once they have had nothing to do for a while.
    """

    def __init__(
        self,
        count: int,
        at_rest: Callable[[], object] = give_back_free_memory,
        rest_seconds: float = _REST_SECONDS,
    ) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="images")
        self._at_rest = at_rest
        self._rest_seconds = rest_seconds
        self._busy = 0
        self._rest: asyncio.TimerHandle | None = None
        self._closed = False

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What `work` returns or raises; it goes on when the caller is cancelled."""
        loop = asyncio.get_running_loop()
        if self._rest is not None:
            self._rest.cancel()
        self._busy += 1
        try:
            return await loop.run_in_executor(self._pool, lambda: work(*args, **kwargs))
        finally:
            self._busy -= 1
            if not (self._busy or self._closed):
                self._rest = loop.call_later(self._rest_seconds, self._pool.submit, self._at_rest)

    def close(self) -> None:
        """Start nothing more."""
        self._closed = True
        if self._rest is not None:
            self._rest.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
