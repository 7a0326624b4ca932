"""A guest that hangs, or whose QEMU stands still, holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sappers.launchers.command import QMP_SOCKET
from sappers.launchers.guest_folder import UNIT_PREFIX, GuestFolder, Record
from sappers.launchers.guest_identity import CONTROL_SOCKET
from sappers.launchers.qemu import QemuLauncher
from sappers.model.member import Accelerator
from sappers.ports import UnitStatus
from tests.unit.clocks import FixedClock


class Standing:
    """A supervisor of one QEMU that a signal has stopped; its sockets take what they are sent."""

    def __init__(self) -> None:
        self.running = True
        self.asked = 0

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        while await reader.read(100):
            pass
        writer.close()

    async def status(self, name: str) -> UnitStatus:
        assert name == f"{UNIT_PREFIX}shop-1"
        return UnitStatus(name, running=self.running)

    async def stop(self, name: str, grace_seconds: float) -> None:
        assert name == f"{UNIT_PREFIX}shop-1"
        self.running = False


@pytest.fixture
async def standing(tmp_path: Path) -> AsyncIterator[tuple[Standing, QemuLauncher]]:
    folder, qemu = GuestFolder(tmp_path / "guests", "shop-1"), Standing()
    folder.run.mkdir(parents=True)
    folder.write(Record("shop-1", 1.0))
    launcher = QemuLauncher(
        folder=tmp_path / "guests",
        templates=tmp_path / "templates",
        spares=tmp_path / "spares",
        images=None,
        supervisor=qemu,
        hub=list,
        ca=None,
        credentials=None,
        scope_of=lambda allocation_id: None,
        accelerator=Accelerator("tcg", ""),
        address="127.0.0.1",
        clock=FixedClock(1000.0),
        refusals=None,
    )
    servers = [
        await asyncio.start_unix_server(qemu.listen, folder.run / name)
        for name in (CONTROL_SOCKET, QMP_SOCKET)
    ]
    yield qemu, launcher
    for server in servers:
        server.close()


async def test_without_grace_nobody_is_asked(standing: tuple[Standing, QemuLauncher]) -> None:
    qemu, launcher = standing
    await launcher.stop("shop-1", 0.0)
    assert (qemu.running, qemu.asked) == (False, 0)


async def test_with_grace_both_are_asked_but_not_for_long(
    standing: tuple[Standing, QemuLauncher],
) -> None:
    qemu, launcher = standing
    async with asyncio.timeout(5.0):  # QEMU alone may take as long where it is heard out
        await launcher.stop("shop-1", 1.0)
    assert (qemu.running, qemu.asked) == (False, 2)
