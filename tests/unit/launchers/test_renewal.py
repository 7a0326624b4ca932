"""Guests' credentials are renewed well before they end, as long as the allocation lives."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sappers.launchers.guest_folder import UNIT_PREFIX, GuestFolder, Record
from sappers.launchers.guest_identity import CONTROL_SOCKET
from sappers.launchers.handover import CREDENTIALS_SECONDS
from sappers.launchers.qemu import QemuLauncher
from sappers.model.guest_scope import GuestScope
from sappers.model.member import Accelerator
from sappers.ports import UnitStatus
from tests.unit.clocks import FixedClock
from tests.unit.worlds import member

SERVERS = ("10.0.0.1:4222",)


class Running:
    """A supervisor under which one guest runs."""

    async def list(self, prefix: str) -> tuple[UnitStatus, ...]:
        return (await self.status(f"{UNIT_PREFIX}shop-1"),) if prefix == UNIT_PREFIX else ()

    async def status(self, name: str) -> UnitStatus:
        return UnitStatus(name, running=True)


class Sidecar:
    """The guest's end of the control port."""

    def __init__(self) -> None:
        self.told: list[dict] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.told.append(json.loads(line)["configure"])
            writer.write(b'{"ok": true}\n')
        writer.close()


class World:
    def __init__(self, folder: Path) -> None:
        self.clock, self.sidecar = FixedClock(1000.0), Sidecar()
        self.scope: GuestScope | None = GuestScope("shop-1", "shop", ("billing",))
        self.stale = 0.0
        self.minted: list[tuple[GuestScope, float]] = []
        self.folder = GuestFolder(folder / "guests", "shop-1")
        self.folder.run.mkdir(parents=True)
        self.launcher = QemuLauncher(
            folder=folder / "guests",
            templates=folder / "templates",
            spares=folder / "spares",
            images=None,
            supervisor=Running(),
            hub=lambda: [member(1)],
            ca=None,
            credentials=self,
            scope_of=lambda allocation_id: self.scope,
            accelerator=Accelerator("tcg", ""),
            address="127.0.0.1",
            clock=self.clock,
            refusals=None,
        )

    def stale_before(self) -> float:
        return self.stale

    def mint(self, scope: GuestScope, expires_at: float) -> str:
        self.minted.append((scope, expires_at))
        return f"credentials {len(self.minted)}"

    def write(self, left_seconds: float, told: tuple[str, ...] | None = SERVERS) -> None:
        until = self.clock.time + left_seconds
        self.folder.write(Record("shop-1", 1.0, told=told, credentials_until=until))

    async def look(self) -> int:
        """One look, as the agent takes many a second; how often the guest was told so far."""
        await self.launcher.observe()
        under_way = self.launcher._handovers._under_way.values()
        await asyncio.gather(*under_way, return_exceptions=True)
        return len(self.sidecar.told)


@pytest.fixture
async def world(tmp_path: Path):
    world = World(tmp_path)
    server = await asyncio.start_unix_server(world.sidecar, world.folder.run / CONTROL_SOCKET)
    yield world
    server.close()


async def test_they_are_renewed_when_a_third_of_their_time_is_over(world: World) -> None:
    world.write(CREDENTIALS_SECONDS)
    assert await world.look() == 0
    world.clock.time += CREDENTIALS_SECONDS / 3 + 1
    assert await world.look() == 1
    (told,) = world.sidecar.told
    assert (told["workload"], told["hub"]["credentials"]) == ("shop", "credentials 1")
    assert world.minted == [(world.scope, world.clock.time + CREDENTIALS_SECONDS)]
    assert world.folder.record().credentials_until == world.clock.time + CREDENTIALS_SECONDS
    assert await world.look() == 1


async def test_those_that_a_revoked_member_may_have_seen_are_replaced_once(world: World) -> None:
    world.write(CREDENTIALS_SECONDS)
    world.clock.time += 10.0
    world.stale = world.clock.time - 1.0
    assert await world.look() == 1
    assert await world.look() == 1


async def test_who_should_end_gets_none(world: World) -> None:
    world.write(1.0)
    world.scope = None
    assert await world.look() == 0
    assert world.minted == []


async def test_a_guest_of_before_and_a_clock_that_jumped_are_renewed_at_once(world: World) -> None:
    world.write(-world.clock.time)
    assert await world.look() == 1
    world.write(CREDENTIALS_SECONDS * 5)
    assert await world.look() == 2


async def test_without_a_hub_a_guest_keeps_the_servers_it_knows(world: World) -> None:
    world.write(1.0)
    world.launcher._hub = list
    assert await world.look() == 1
    assert tuple(world.sidecar.told[0]["hub"]["servers"]) == SERVERS


async def test_one_that_refuses_is_told_of_once_until_it_takes_them(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write(1.0)
    socket = world.folder.run / CONTROL_SOCKET
    with capture_logs() as said:
        for _ in range(3):
            await world.look()
    assert [(one["event"], one["allocation"]) for one in said] == [
        ("guest not configured", "shop-1")
    ]
    async with await asyncio.start_unix_server(world.sidecar, socket):
        assert await world.look() == 1
    socket.unlink()
    world.write(1.0)
    with capture_logs() as said:
        await world.look()
    assert [one["event"] for one in said] == ["guest not configured"]
