from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from sappers.agent import registration
from sappers.agent.registration import Registration
from sappers.errors import ConsulError
from sappers.model.service import (
    DeregisterService,
    RegisterService,
    ReportService,
    ServiceChange,
    ServiceHealth,
    ServiceReading,
)
from tests.unit.clocks import FixedClock
from tests.unit.service_worlds import ME, allocation, world


class ListRegistry:
    """A Consul agent that can be away."""

    def __init__(self) -> None:
        self.away = False
        self.readings: dict[str, ServiceReading] = {}
        self.reports = 0
        self.asked = asyncio.Event()

    async def services(self) -> Sequence[ServiceReading]:
        self.asked.set()
        if self.away:
            raise ConsulError("Consul is away")
        return list(self.readings.values())

    async def execute(self, change: ServiceChange) -> None:
        match change:
            case RegisterService(reading=reading):
                self.readings[reading.service.id] = reading
            case DeregisterService(service_id=service_id):
                del self.readings[service_id]
            case ReportService():
                self.reports += 1

    async def check_catalog(self) -> None:
        return

    async def look(self) -> None:
        """Until it was asked once more, and the answer was used."""
        self.asked.clear()
        await asyncio.wait_for(self.asked.wait(), 60)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(one: Registration) -> AsyncIterator[None]:
    task = asyncio.create_task(one.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "REPEAT_SECONDS", 0.02)
    monkeypatch.setattr(registration, "PAUSE_SECONDS", 0.01)


async def test_what_consul_missed_while_it_was_away_is_told_when_it_is_back() -> None:
    registry, clock = ListRegistry(), FixedClock(100.0)
    one = Registration(registry, clock)
    registry.away = True
    async with running(one):
        one.follow(world(allocation(1)), ME, ())
        await registry.look()
        assert (one.word, one.trouble) == ("down", "Consul is away")
        one.follow(world(allocation(2)), ME, ())
        registry.away = False
        await registry.look()
        await registry.look()
    assert (one.word, one.trouble) == ("ok", "")
    (reading,) = registry.readings.values()
    assert reading.service.id == "sappers-hello-00000002"
    assert reading.health is ServiceHealth.PASSING


async def test_an_agent_whose_loop_stands_still_says_nothing() -> None:
    registry, clock = ListRegistry(), FixedClock(100.0)
    one = Registration(registry, clock)
    async with running(one):
        one.follow(world(allocation(1)), ME, ())
        await registry.look()
        clock.time += 5
        await registry.look()
        reports = registry.reports
        assert reports >= 1
        clock.time += registration.STALE_SECONDS
        await asyncio.sleep(0.2)
        assert registry.reports <= reports + 1


async def test_without_consul_nothing_is_done() -> None:
    one = Registration(None, FixedClock(100.0))
    one.follow(world(allocation(1)), ME, ())
    await asyncio.wait_for(one.run(), 60)
    assert (one.word, one.trouble) == ("-", "")


@pytest.mark.parametrize("turns", range(8))
async def test_it_ends_though_the_cancellation_comes_with_a_change(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr(registration, "REPEAT_SECONDS", 600.0)
    one = Registration(ListRegistry(), FixedClock(100.0))
    run = asyncio.create_task(one.run())
    await asyncio.sleep(0)
    one.follow(world(allocation(1)), ME, ())
    for _ in range(turns):
        await asyncio.sleep(0)
    run.cancel()
    ended, _ = await asyncio.wait([run], timeout=10)
    assert ended and run.cancelled()
