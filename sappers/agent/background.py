"""Work that goes on beside something, and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

AGAIN_SECONDS = 5.0

log = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def background(*work: Work) -> AsyncIterator[None]:
    """Do some work beside the body; it ends with it."""
    tasks = [asyncio.create_task(kept_up(one)) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kept_up(work: Work) -> None:
    """Do it until it is done; where it fails, which is logged, it begins anew after a while.

    An error that nobody foresaw must not leave an agent that looks well and does half of its work.
    """
    while True:
        try:
            return await work()
        except Exception as error:
            log.error("background work failed", error=repr(error), again_in=AGAIN_SECONDS)
            await asyncio.sleep(AGAIN_SECONDS)
