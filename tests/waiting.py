"""Waiting for what others bring about, tasks, threads or processes: for a condition, not a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    condition: Callable[[], object] | Callable[[], Awaitable[object]], seconds: float = 90.0
) -> None:
    """Wait until it is true, at most so long; other tasks go on."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.02)


def wait_until(what: str, look: Callable[[], T], seconds: float = 90.0) -> T:
    """What `look` returns once it is true, for what other threads and processes do.

    An AssertionError, an OSError or a ValueError in it means: not yet.
    """
    deadline = time.monotonic() + seconds
    while True:
        why: object = "it is false"
        try:
            if found := look():
                return found
        except (AssertionError, OSError, ValueError) as error:
            why = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}: {why}")
        time.sleep(0.05)
