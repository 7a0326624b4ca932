"""News wakes who waits for the next change."""

from __future__ import annotations

import asyncio

from sappers.consensus.news import News

LISTENERS = 50


def test_listeners_wake_in_the_order_in_which_they_came() -> None:
    async def woken() -> list[int]:
        news, order = News(), asyncio.Queue[int]()

        async def listen(number: int) -> None:
            async for _ in news.listen():
                order.put_nowait(number)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(listen(number)) for number in range(LISTENERS)]
            await asyncio.sleep(0)
            news.tell()
            numbers = [await order.get() for _ in tasks]
            for task in tasks:
                task.cancel()
        return numbers

    assert asyncio.run(woken()) == list(range(LISTENERS))
