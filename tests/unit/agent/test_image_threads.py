"""Threads for images: whoever works in them, and what is left when nobody does."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from sappers.agent.images.heap import give_back_free_memory
from sappers.agent.images.image_threads import ImageThreads

_BLOCK_BYTES, _BLOCKS = 96 << 10, 600


async def test_at_rest_once_nobody_has_worked_for_a_while() -> None:
    rested = threading.Event()
    rests: list[int] = []
    working = threading.Event()

    def rest() -> None:
        rests.append(working.is_set())
        rested.set()

    def work() -> None:
        working.set()
        assert not rested.wait(0.05)
        working.clear()

    threads = ImageThreads(2, rest, rest_seconds=0.02)
    try:
        await asyncio.gather(threads.run(work), threads.run(work))
        assert await asyncio.to_thread(rested.wait, 10)
    finally:
        threads.close()
    assert rests == [False]


async def test_nothing_is_begun_after_the_end() -> None:
    rested = threading.Event()
    threads = ImageThreads(1, rested.set, rest_seconds=0.01)
    await threads.run(int)
    threads.close()
    assert not await asyncio.to_thread(rested.wait, 0.05)


async def test_work_that_outlasts_the_end_brings_no_rest_after_it() -> None:
    goes_on, later, loop = threading.Event(), asyncio.Event(), asyncio.get_running_loop()
    troubles: list[object] = []
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    threads = ImageThreads(1, int, rest_seconds=0)
    work = asyncio.create_task(threads.run(goes_on.wait))
    await asyncio.sleep(0)  # it is begun
    threads.close()
    goes_on.set()
    assert await work
    loop.call_later(0, later.set)
    await later.wait()
    assert not troubles


def test_what_a_thread_has_freed_goes_back_to_the_system() -> None:
    kept: list[bytes] = []

    def use() -> None:
        blocks = [os.urandom(_BLOCK_BYTES) for _ in range(_BLOCKS)]
        # With some left among them the C library returns little by itself.
        kept.extend(blocks[::50])

    worker = threading.Thread(target=use)
    worker.start()
    worker.join()
    before = _resident_bytes()
    give_back_free_memory()
    assert before - _resident_bytes() > _BLOCK_BYTES * _BLOCKS / 2


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
