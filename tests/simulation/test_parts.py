"""The simulated disk, loop and network keep to what is said of them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from sappers.consensus.disk import AppendFile
from tests.simulation.disk import PowerLost, SimulatedDisk
from tests.simulation.loop import Life, VirtualLoop
from tests.simulation.network import Network, Weather

PATH = Path("journal")


@pytest.fixture
def disk() -> SimulatedDisk:
    disk = SimulatedDisk(random.Random(1))
    disk.replace(PATH, b"begun ")
    return disk


def test_what_was_synced_survives_a_loss_of_power_and_more_never_does(disk: SimulatedDisk) -> None:
    file = disk.append(PATH)
    file.write(b"synced ")
    file.sync()
    file.write(b"not synced")
    assert disk.read(PATH) == b"begun synced not synced"
    disk.lose_power()
    kept = disk.read(PATH).rstrip(b"\0")
    assert kept.startswith(b"begun synced ")
    assert len(kept) <= len(b"begun synced not synced")


def fail_a_sync(disk: SimulatedDisk) -> AppendFile:
    """The file that was to be synced, with `failed ` at its end."""
    file = disk.append(PATH)
    file.write(b"failed ")
    disk.failing = 1.0
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    disk.failing = 0.0
    return file


def test_what_a_sync_could_not_write_can_be_read_until_the_power_goes(disk: SimulatedDisk) -> None:
    file = fail_a_sync(disk)
    file.write(b"after ")
    file.sync()
    assert disk.read(PATH) == b"begun failed after "
    disk.lose_power()
    assert disk.read(PATH).rstrip(b"\0") != b"begun failed after ", "nobody wrote it again"


def test_what_is_written_again_is_on_the_disk(disk: SimulatedDisk) -> None:
    fail_a_sync(disk)
    disk.rewrite(PATH, b"begun failed")
    disk.lose_power()
    assert disk.read(PATH).rstrip(b"\0") == b"begun failed"


def test_a_full_disk_says_so_and_keeps_what_it_had(disk: SimulatedDisk) -> None:
    disk.is_full = True
    with pytest.raises(OSError, match="No space"):
        disk.replace(PATH, b"new")
    assert disk.read(PATH) == b"begun "


def test_a_rename_whose_folder_was_not_synced_is_undone(disk: SimulatedDisk) -> None:
    answers = iter([None, OSError(5, "folder")])

    def check() -> None:
        if error := next(answers):
            raise error

    disk.check_health = check
    with pytest.raises(OSError, match="folder"):
        disk.replace(PATH, b"new")
    assert disk.read(PATH) == b"new"
    disk.lose_power()
    assert disk.read(PATH) == b"begun "


def test_power_goes_before_the_write_that_it_was_set_to(disk: SimulatedDisk) -> None:
    died: list[str] = []
    disk.at_death = lambda: died.append("died")
    disk.dies_in = 2
    file = disk.append(PATH)
    file.sync()
    file.write(b"more")
    with pytest.raises(PowerLost):
        file.sync()
    assert died == ["died"]


def test_time_jumps_and_order_is_kept() -> None:
    loop, seen = VirtualLoop(), []
    loop.call_later(3600.0, seen.append, "late")
    loop.call_later(1.0, seen.append, "early")
    loop.call_soon(seen.append, "now")
    loop.run_until(10_000.0)
    assert seen == ["now", "early", "late"]
    assert loop.time() == 10_000.0


def test_a_paused_life_finds_all_that_happened_in_order_and_an_ended_one_nothing() -> None:
    loop, seen = VirtualLoop(), []
    life = Life("one", loop.time)
    life.is_paused = True
    for number in range(3):
        loop.call_later(number + 1.0, seen.append, number, context=life.context)
    loop.run_until(2.5)
    assert seen == []
    loop.resume(life)
    loop.run_until(2.6)
    assert seen == [0, 1]
    life.end()
    loop.run_until(9.0)
    assert seen == [0, 1]


def test_what_ended_runs_no_finally() -> None:
    loop, seen = VirtualLoop(), []
    life = Life("one", loop.time)

    async def work() -> None:
        try:
            await asyncio.sleep(1.0)
        finally:
            seen.append("cleaned up")

    loop.create_task(work(), context=life.context)
    loop.run_until(0.5)
    life.end()
    loop.run_until(5.0)
    assert seen == []


def test_a_reliable_link_keeps_order_and_a_cut_one_brings_nothing() -> None:
    loop, seen = VirtualLoop(), []
    network, life = Network(loop, 1), Life("b", loop.time)
    network.weather = Weather(slowest_seconds=1.0, loss=0.9, repetition=0.9, reorders=True)
    for number in range(20):
        network.send("a", "b", life, seen.append, number, reliable=True)
    loop.run_until(5.0)
    assert seen == list(range(20))
    network.send("a", "b", life, seen.append, "under way", reliable=True)
    network.cut.add(("a", "b"))
    loop.run_until(9.0)
    assert seen == list(range(20))
