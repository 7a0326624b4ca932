"""A clone's own MAC, written into the memory of a machine that stands still: a real QEMU's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.errors import LaunchError
from sappers.launchers import command
from sappers.launchers.guest_folder import GuestFolder, Record
from sappers.launchers.own_address import forms, give_own_address
from sappers.launchers.qmp import first_monitor
from sappers.launchers.templates import Held, Template, new_memory

MAC = "5a:11:22:33:44:55"
pytestmark = pytest.mark.skipif(not shutil.which(command.QEMU), reason="QEMU is not here")


@pytest.fixture
def held() -> Held:
    """A template's memory: the MAC in two places, across the parts that are read at once, too."""
    memory = new_memory(32)
    plain, half = forms(command.TEMPLATE_MAC)
    os.pwrite(memory, b"before" + plain + b"after", 5 << 20)
    os.pwrite(memory, bytes(1 << 20) + bytes((1 << 20) - 3) + plain, 8 << 20)
    os.pwrite(memory, b"\xfe\x80" + bytes(6) + half, 17 << 20)
    return Held(Template("key", "image", 32, "", ""), memory, b"")


@pytest.fixture
def folder(held: Held, tmp_path: Path) -> Iterator[GuestFolder]:
    """A machine that has the template's memory, privately, and has not begun."""
    folder = GuestFolder(tmp_path, "web-0-1a2b3c")
    folder.prepare(Record("web-0-1a2b3c", 1.0), {}, None)
    memory = f"memory-backend-file,id=memory,size=32M,mem-path={command.MEMORY},share=off"
    arguments = (
        *("-M", "q35,memory-backend=memory", "-accel", "tcg", "-m", "32M", "-object", memory),
        *("-S", "-nodefaults", "-display", "none", "-incoming", "defer"),
        *("-qmp", f"unix:{command.QMP_SOCKET},server=on,wait=off"),
    )
    with subprocess.Popen(
        [command.QEMU, *arguments],
        cwd=folder.run,
        stdin=held.memory,
    ) as machine:
        yield folder
        machine.kill()


async def read(folder: GuestFolder, place: int, length: int) -> bytes:
    async with first_monitor(folder, lives) as qemu:
        await qemu.execute("pmemsave", val=place, size=length, filename="read")
    return (folder.run / "read").read_bytes()


async def lives() -> bool:
    return True


def test_where_something_stands_is_found_and_holes_stay(held: Held) -> None:
    before = os.fstat(held.memory).st_blocks
    plain, half = forms(command.TEMPLATE_MAC)

    assert held.places(plain) == ((5 << 20) + 6, (10 << 20) - 3)
    assert held.places(half) == ((17 << 20) + 8,)
    assert held.places(b"nowhere at all") == ()
    assert os.fstat(held.memory).st_blocks == before


async def test_a_clone_has_its_own_and_its_template_stays_as_it_is(
    held: Held, folder: GuestFolder
) -> None:
    async with first_monitor(folder, lives) as qemu:
        await give_own_address(folder, qemu, held, MAC)
        assert (await qemu.execute("query-status"))["running"] is False

    plain, half = forms(MAC)
    assert await read(folder, 5 << 20, 17) == b"before" + plain + b"after"
    assert await read(folder, (10 << 20) - 3, 6) == plain
    assert await read(folder, (17 << 20) + 8, 8) == half
    assert os.pread(held.memory, 6, (5 << 20) + 6) == forms(command.TEMPLATE_MAC)[0]
    assert not (folder.run / "debug.sock").exists()


async def test_a_memory_without_the_templates_mac_is_no_such_template(
    held: Held, folder: GuestFolder
) -> None:
    empty = Held(held.template, new_memory(32), b"")

    async with first_monitor(folder, lives) as qemu:
        with pytest.raises(LaunchError, match="nowhere in its memory"):
            await give_own_address(folder, qemu, empty, MAC)
