"""Real guests on this machine: built, booted, healthy by their own push, ended in every way."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from sappers.errors import LaunchError
from sappers.ports import UnitSpec
from tests.integration.guests import GuestHost, build_image, get
from tests.integration.hubs import eventually

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86"),
    pytest.mark.skipif(not shutil.which("lz4"), reason="needs lz4"),
]


@pytest.fixture
async def host(tmp_path):
    it = GuestHost(tmp_path)
    await it.start()
    yield it
    await it.stop()


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if not path.is_dir()}


async def test_a_guest_lives_and_is_stopped_without_a_trace(host):
    hello = host.allocation("hello", build_image(host.store, "hello"))
    await host.launch(hello)
    push = await host.healthy(hello)
    assert push["reason"] == "" and push["boot_id"]
    assert f"Hello from {hello.id}" in await get(hello.host_port)
    guest = (await host.launcher.observe())[hello.id]
    assert guest.running and guest.started_at is not None
    assert "healthy" not in await host.launcher.serial_log(hello.id, 0)
    assert '"sidecar": "configured"' in await host.launcher.serial_log(hello.id, 10_000)

    await host.launcher.stop(hello.id, 10.0)
    assert await host.launcher.observe() == {}
    assert await host.supervisor.list("sappers-guest-") == ()
    assert left_in(host.folder / "guests" / hello.id) == {"serial.log"}
    assert "shutting-down" in await host.launcher.serial_log(hello.id, 10_000)


async def test_an_agent_that_restarts_finds_its_guest_untouched(host):
    hello = host.allocation("hello", build_image(host.store, "hello"))
    await host.launch(hello)
    push = await host.healthy(hello)
    before = (await host.launcher.observe())[hello.id]
    host.launcher = host.make_launcher()
    after = (await host.launcher.observe())[hello.id]
    assert after.running and after.started_at == pytest.approx(before.started_at, abs=0.1)
    later = await host.healthy(hello, since=push["at"])
    assert later["boot_id"] == push["boot_id"]


async def test_why_a_guest_ended_is_known(host):
    hello = host.allocation("hello", build_image(host.store, "hello"))
    await host.launch(hello)
    await host.healthy(hello)
    unit = await host.supervisor.status(f"sappers-guest-{hello.id}")
    os.kill(unit.pid, signal.SIGKILL)
    assert await host.ended(hello) == "QEMU was killed by signal 9"
    await host.launcher.stop(hello.id, 1.0)
    assert await host.launcher.observe() == {}


async def test_a_port_in_use_is_named_and_nothing_is_left(host):
    hello = host.allocation("hello", build_image(host.store, "hello"))
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", hello.host_port)
    async with server:
        with pytest.raises(LaunchError, match=f"port {hello.host_port} of 127.0.0.1 is in use"):
            await host.launch(hello)
    assert await host.launcher.observe() == {}


async def test_a_guest_that_panics_is_seen_to(host, tmp_path):
    folder = tmp_path / "definitions" / "panics"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text(
        'kind = "microvm"\n[application]\nmodule = "panics"\nfiles = ["panics.py"]\n'
        "in_process = true\n"
    )
    (folder / "panics.py").write_text(
        "import os, pathlib\n"
        "async def run(guest):\n"
        "    await guest.hub_connected()\n"
        "    pathlib.Path('/proc/sysrq-trigger').write_text('c')\n"
    )
    panics = host.allocation("panics", build_image(host.store, "panics", folder.parent))
    await host.launch(panics)
    assert await host.ended(panics) == "the guest panicked: sysrq triggered crash"


async def test_an_application_that_ends_is_unhealthy_at_once(host, tmp_path):
    folder = tmp_path / "definitions" / "ends"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text(
        'kind = "microvm"\n[application]\nmodule = "ends"\nfiles = ["ends.py"]\n'
    )
    (folder / "ends.py").write_text("import sys\nsys.exit(3)\n")
    ends = host.allocation("ends", build_image(host.store, "ends", folder.parent))
    await host.launch(ends)
    await eventually(lambda: host.pushes.get(ends.id), 90.0)
    assert not host.pushes[ends.id][-1]["healthy"]
    assert host.pushes[ends.id][-1]["reason"] == "the application ended with exit code 3"


async def test_the_healer_connects_and_says_that_it_is_ready(host):
    healer = host.allocation("healer", build_image(host.store, "healer"))
    await host.launch(healer)
    await host.healthy(healer)
    assert f"sappers.guest.{healer.id}.ready" in host.messages


async def test_a_hub_that_comes_late_or_moves_is_followed(host):
    members, host.hub_members = host.hub_members, []
    hello = host.allocation("hello", build_image(host.store, "hello"))
    await host.launch(hello)
    assert "Hello from" in await get(hello.host_port)
    assert hello.id not in host.pushes
    host.hub_members = members
    host.launcher = host.make_launcher()  # and by an agent that knows only what is on disk
    await eventually(lambda: told_by(host, hello.id), 60.0)
    await host.healthy(hello)


async def told_by(host: GuestHost, allocation_id: str) -> bool:
    """One look of the agent's loop; whether the guest pushes."""
    await host.launcher.observe()
    return allocation_id in host.pushes


async def test_a_guest_that_hangs_is_stopped_all_the_same(host):
    hello = host.allocation("hello", build_image(host.store, "hello"))
    await host.launch(hello)
    unit = await host.supervisor.status(f"sappers-guest-{hello.id}")
    os.kill(unit.pid, signal.SIGSTOP)
    await host.launcher.stop(hello.id, 0.5)
    assert await host.launcher.observe() == {}
    assert left_in(host.folder / "guests" / hello.id) == {"serial.log"}


async def test_units_that_nobody_owns_are_seen_and_swept(host, tmp_path):
    await host.supervisor.start(UnitSpec("sappers-guest-orphan-1", ("sleep", "600"), str(tmp_path)))
    assert (await host.launcher.observe())["orphan-1"].running
    await host.launcher.stop("orphan-1", 0.2)
    assert await host.launcher.observe() == {}
    assert await host.supervisor.list("sappers-guest-") == ()


async def test_more_guests_than_cores_boot_in_turn(host):
    digest = build_image(host.store, "hello")
    guests = [host.allocation("hello", digest, number) for number in range(3)]
    await asyncio.gather(*(host.launch(guest) for guest in guests))
    boots = [await host.healthy(guest) for guest in guests]
    assert len({push["boot_id"] for push in boots}) == 3
    for guest in guests:
        assert f"Hello from {guest.id}" in await get(guest.host_port)


async def test_a_guest_outlives_the_hub(host):
    hello = host.allocation("hello", build_image(host.store, "hello"))
    await host.launch(hello)
    push = await host.healthy(hello)
    await host.hub.kill("n1")
    seen = asyncio.get_running_loop().time()
    await host.hub.run("n1", term=2)
    later = await host.healthy(hello, since=seen)
    assert later["boot_id"] == push["boot_id"]
    assert later["sequence"] > push["sequence"]
