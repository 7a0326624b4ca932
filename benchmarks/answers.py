"""When applications answer for the first time, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

ANSWER_SECONDS = 150.0
# QEMU accepts before the guest is there. What has waited no longer than a second is let in the
# moment that the guest has a network; what waits longer may stall for seconds. So a new connection
# is opened now and then, and not all the time: each is work for a guest that has just begun.
# One that is refused or cut off is tried again soon.
_EVERY_SECONDS = 0.25
_SOON_SECONDS = 0.005
_OPEN_AT_ONCE = 8
_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"

Place = tuple[str, int]


async def first_answers(places: Mapping[str, Place]) -> dict[str, float]:
    """By name: `time.monotonic` of the first answer. Those that never answer are left out."""
    found = await asyncio.gather(*(_first_answer(place) for place in places.values()))
    return {name: at for name, at in zip(places, found, strict=True) if at is not None}


async def _first_answer(place: Place) -> float | None:
    answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    tries: list[asyncio.Task[None]] = []
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while not answered.done():
                tries.append(asyncio.create_task(_try(place, answered)))
                if len(tries) > _OPEN_AT_ONCE:
                    tries.pop(0).cancel()
                waited: list[asyncio.Future[Any]] = [answered, tries[-1]]
                await asyncio.wait(
                    waited,
                    timeout=_EVERY_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if tries[-1].done() and not answered.done():
                    await asyncio.sleep(_SOON_SECONDS)
            return answered.result()
    except TimeoutError:
        return None
    finally:
        for each in tries:
            each.cancel()
        await asyncio.gather(*tries, return_exceptions=True)


async def _try(place: Place, answered: asyncio.Future[float]) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection(*place)
        try:
            writer.write(_REQUEST)
            if await reader.readexactly(12) == b"HTTP/1.1 200" and not answered.done():
                answered.set_result(time.monotonic())
        finally:
            writer.close()
