"""Spares on real QEMU: each becomes one guest or none, and nothing is left of those that do not."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import time

import msgspec
import pytest

from sappers.errors import PortTaken
from sappers.launchers.guest_folder import UNIT_PREFIX, GuestFolder
from sappers.launchers.watchdog import now
from sappers.model.allocation import Allocation
from tests.integration.guests import GuestHost, get
from tests.integration.test_guests import answer_of, build_dice, left_in
from tests.waiting import eventually

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86"),
    pytest.mark.skipif(not shutil.which("lz4"), reason="needs lz4"),
]


def unit_in(host: GuestHost, guest: Allocation) -> str:
    return GuestFolder(host.folder / "guests", guest.id).unit


async def units(host: GuestHost) -> set[str]:
    return {unit.name for unit in await host.supervisor.list(UNIT_PREFIX) if unit.running}


async def pid_of(host: GuestHost, unit: str) -> int:
    status = await host.supervisor.status(unit)
    assert status is not None and status.pid
    return status.pid


def processor_seconds(pid: int) -> float:
    fields = open(f"/proc/{pid}/stat").read().rpartition(") ")[2].split()  # noqa: SIM115, PTH123
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_a_spare_becomes_one_guest_and_an_agent_that_restarts_finds_it(host, tmp_path):
    digest = build_dice(host.store, tmp_path)
    await host.launcher.warm(host.manifest(digest), digest)
    guests = [host.allocation("dice", digest, number) for number in range(4)]
    answers = [await answer_of(host, guests[0])]
    assert unit_in(host, guests[0]) == f"{UNIT_PREFIX}{guests[0].id}"

    # It waits, costs no processor time, and is nobody.
    spare = await host.spare()
    pid = await pid_of(host, spare)
    used = processor_seconds(pid)
    assert list(await host.launcher.observe()) == [guests[0].id]

    # Of several that are launched at once one gets it.
    begin = time.monotonic()
    answers += await asyncio.gather(*(answer_of(host, guest) for guest in guests[1:3]))
    (lucky,) = (guest for guest in guests[1:3] if unit_in(host, guest) == spare)
    assert await pid_of(host, spare) == pid and processor_seconds(pid) > used
    assert {answer["drawn"]["guest"] for answer in answers} == {guest.id for guest in guests[:3]}
    for number, one in enumerate(answers):
        for other in answers[:number]:
            drawn = one["drawn"], other["drawn"]
            assert not [name for name in drawn[0] if drawn[0][name] == drawn[1][name]]
        assert abs(one["now"] - one["came_at"]) < 30.0
    owners = [(host.folder / "guests" / guest.id / "run").stat().st_uid for guest in guests[:3]]
    assert len(set(owners)) == (3 if os.geteuid() == 0 else 1)
    seen = await host.launcher.observe()
    assert seen.keys() == {guest.id for guest in guests[:3]}
    assert {guest.reason for guest in seen.values()} == {"started from a template"}
    assert begin <= seen[lucky.id].started_at <= time.monotonic()

    # Another agent knows whose it is, and ends the next spare, which only its agent could speak to.
    second = await host.spare()
    assert second != spare and second in await units(host)
    host.launcher = host.make_launcher()
    found = await host.launcher.observe()
    assert found.keys() == seen.keys() and all(guest.running for guest in found.values())
    assert found[lucky.id].started_at == seen[lucky.id].started_at
    assert spare in await units(host) and second not in await units(host)
    assert not list((host.folder / "spares").iterdir())
    await host.launch(lucky)  # it runs already
    await host.healthy(lucky, since=time.monotonic())
    assert '"sidecar": "configured"' in await host.launcher.serial_log(lucky.id, 10_000)

    os.kill(await pid_of(host, spare), signal.SIGKILL)
    assert await host.ended(lucky) == "QEMU was killed by signal 9"
    await host.launcher.stop(lucky.id, 1.0)
    assert left_in(host.folder / "guests" / lucky.id) == {"serial.log"}
    assert spare not in {unit.name for unit in await host.supervisor.list(UNIT_PREFIX)}
    assert lucky.id not in await host.launcher.observe()


async def test_a_spare_is_for_those_that_it_fits(host, hello_image):
    manifest = host.manifest(hello_image)
    await host.launcher.warm(manifest, hello_image)
    host.launcher = host.make_launcher(lease_of=lambda _: now() + 1000.0)
    first, exclusive, *others = (host.allocation("hello", hello_image, n) for n in range(6))
    await host.launch(first)
    spare = await host.spare()

    # What is watched over is something else, what does not get its port is nothing.
    exclusive = msgspec.structs.replace(exclusive, lease_seconds=15.0, guest_port=None)
    await host.launch(exclusive)
    with socket.create_server(("127.0.0.1", others[0].host_port)), pytest.raises(PortTaken):
        await host.launch(others[0])
    assert await host.spare() == spare
    await host.launch(others[0])
    assert unit_in(host, others[0]) == spare
    assert f"Hello from {others[0].id}" in await get(others[0].host_port)
    await host.launcher.stop(others[0].id, 10.0)
    assert "shutting-down" in await host.launcher.serial_log(others[0].id, 10_000)
    assert spare not in await units(host)

    # One whose QEMU died, a moment ago or before, is not used; its template is as good as ever.
    spare = await host.spare()
    os.kill(await pid_of(host, spare), signal.SIGKILL)
    await host.launch(others[1])
    assert unit_in(host, others[1]) == f"{UNIT_PREFIX}{others[1].id}"
    spare = await host.spare()
    os.kill(await pid_of(host, spare), signal.SIGKILL)
    await eventually(lambda: ended(host, spare))
    await host.launch(others[2])
    assert (await host.launcher.observe())[others[2].id].reason == "started from a template"

    # Nor is one whose template is none any more.
    spare = await host.spare()
    held = await host.launcher._checkpoints.template_for(others[3], manifest)
    await host.launcher._checkpoints.discard(held, "a test")
    await eventually(lambda: ended(host, spare))

    # An agent that ends leaves guests, and no spare.
    await host.launcher.warm(manifest, hello_image)
    await host.launch(others[3])
    spare = await host.spare()
    await host.launcher.close()
    left = {f"{UNIT_PREFIX}{one.id}" for one in (first, exclusive, others[1], others[2], others[3])}
    assert await units(host) == left
    assert not list((host.folder / "spares").iterdir())


async def ended(host: GuestHost, spare: str) -> bool:
    """One look of the agent's loop; whether nothing is left of a spare."""
    await host.launcher.observe()
    return spare not in {unit.name for unit in await host.supervisor.list(UNIT_PREFIX)}
