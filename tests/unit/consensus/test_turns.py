from __future__ import annotations

import asyncio

from sappers.consensus.turns import Turns


class Ticks:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.at: list[float] = []
        self.came = asyncio.Event()
        self.turns = Turns(self._tick)

    def _tick(self) -> None:
        self.at.append(self.loop.time())
        self.came.set()


async def test_what_is_asked_for_twice_is_one_turn() -> None:
    ticks = Ticks()
    ticks.turns.take_soon()
    ticks.turns.take_soon()
    assert not ticks.at
    await ticks.came.wait()
    await asyncio.sleep(0)
    assert len(ticks.at) == 1


async def test_a_turn_that_was_had_does_not_come_again() -> None:
    ticks = Ticks()
    ticks.turns.take_soon()
    ticks.turns.take()
    assert len(ticks.at) == 1
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(ticks.at) == 1


async def test_a_time_takes_the_place_of_the_last_one_whichever_is_later() -> None:
    for first, second in ((0.01, 0.05), (30.0, 0.05)):
        ticks = Ticks()
        began = ticks.loop.time()
        ticks.turns.take_after(first)
        ticks.turns.take_after(second)
        async with asyncio.timeout(10.0):
            await ticks.came.wait()
        assert len(ticks.at) == 1
        assert ticks.at[0] >= began + second


async def test_no_turn_comes_after_the_end() -> None:
    ticks = Ticks()
    ticks.turns.take_after(0.01)
    ticks.turns.end()
    later = asyncio.Event()
    ticks.loop.call_later(0.03, later.set)
    await later.wait()
    assert not ticks.at
