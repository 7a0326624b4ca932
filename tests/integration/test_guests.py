"""Real guests on this machine: built, booted, healthy by their own push, ended in every way."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import msgspec
import pytest

from sappers.errors import LaunchError, PortTaken
from sappers.images.store import FolderImageStore
from sappers.launchers import qemu
from sappers.launchers.qmp import Monitor
from sappers.model.allocation import Allocation
from sappers.model.guest_scope import GuestScope
from sappers.ports import UnitSpec
from tests.integration.guests import (
    GuestHost,
    build_image,
    cold_guest,
    get,
    link_port,
    scope_by_name,
)
from tests.waiting import eventually

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86"),
    pytest.mark.skipif(not shutil.which("lz4"), reason="needs lz4"),
]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if not path.is_dir()}


async def test_a_guest_lives_and_is_stopped_without_a_trace(host, hello_image):
    hello = cold_guest(host, "hello", hello_image)
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


async def test_an_agent_that_restarts_finds_its_guest_untouched(host, hello_image):
    hello = cold_guest(host, "hello", hello_image)
    await host.launch(hello)
    push = await host.healthy(hello)
    before = (await host.launcher.observe())[hello.id]
    host.launcher = host.make_launcher()
    after = (await host.launcher.observe())[hello.id]
    assert after.running and after.started_at == pytest.approx(before.started_at, abs=0.1)
    later = await host.healthy(hello, since=push["at"])
    assert later["boot_id"] == push["boot_id"]


async def test_why_a_guest_ended_is_known(host, hello_image):
    hello = cold_guest(host, "hello", hello_image)
    await host.launch(hello)
    await host.healthy(hello)
    unit = await host.supervisor.status(f"sappers-guest-{hello.id}")
    os.kill(unit.pid, signal.SIGKILL)
    assert await host.ended(hello) == "QEMU was killed by signal 9"
    await host.launcher.stop(hello.id, 1.0)
    assert await host.launcher.observe() == {}


async def test_a_port_in_use_is_named_and_nothing_is_left(host, hello_image):
    hello = cold_guest(host, "hello", hello_image)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", hello.host_port)
    async with server:
        with pytest.raises(LaunchError, match=f"port {hello.host_port} of 127.0.0.1 is in use"):
            await host.launch(hello)
    assert await host.launcher.observe() == {}


async def test_a_guest_that_panics_is_seen_to(host, tmp_path):
    folder = tmp_path / "definitions" / "panics"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text(
        'kinds = ["microvm"]\n[application]\nmodule = "panics"\nfiles = ["panics.py"]\n'
        "in_process = true\n"
    )
    (folder / "panics.py").write_text(
        "import os, pathlib\n"
        "async def run(guest):\n"
        "    await guest.hub_connected()\n"
        "    pathlib.Path('/proc/sysrq-trigger').write_text('c')\n"
    )
    panics = cold_guest(host, "panics", build_image(host.store, "panics", folder.parent))
    await host.launch(panics)
    assert await host.ended(panics) == "the guest panicked: sysrq triggered crash"


async def test_an_application_that_ends_is_unhealthy_at_once(host, tmp_path):
    folder = tmp_path / "definitions" / "ends"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text(
        'kinds = ["microvm"]\n[application]\nmodule = "ends"\nfiles = ["ends.py"]\n'
    )
    (folder / "ends.py").write_text("import sys\nsys.exit(3)\n")
    ends = cold_guest(host, "ends", build_image(host.store, "ends", folder.parent))
    await host.launch(ends)
    await eventually(lambda: host.pushes.get(ends.id))
    assert not host.pushes[ends.id][-1]["healthy"]
    assert host.pushes[ends.id][-1]["reason"] == "the application ended with exit code 3"


async def test_a_healer_asks_for_its_repair_and_is_well(host):
    healer = cold_guest(host, "healer", build_image(host.store, "healer"))
    await host.launch(healer)
    await host.healthy(healer)
    await eventually(lambda: f"sappers.guest.{healer.id}.repair.claim" in host.messages)


async def test_a_hub_that_comes_late_or_moves_is_followed(host, hello_image):
    members, host.hub_members = host.hub_members, []
    hello = cold_guest(host, "hello", hello_image)
    await host.launch(hello)
    assert "Hello from" in await get(hello.host_port)
    assert hello.id not in host.pushes
    host.hub_members = members
    host.launcher = host.make_launcher()  # and by an agent that knows only what is on disk
    await eventually(lambda: told_by(host, hello.id))
    await host.healthy(hello)


async def told_by(host: GuestHost, allocation_id: str) -> bool:
    """One look of the agent's loop; whether the guest pushes."""
    await host.launcher.observe()
    return allocation_id in host.pushes


async def test_a_guest_that_hangs_is_stopped_all_the_same(host, hello_image):
    hello = cold_guest(host, "hello", hello_image)
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


async def test_more_guests_than_cores_boot_in_turn(host, hello_image):
    guests = [cold_guest(host, "hello", hello_image, number) for number in range(3)]
    await asyncio.gather(*(host.launch(guest) for guest in guests))
    boots = [await host.healthy(guest) for guest in guests]
    assert len({push["boot_id"] for push in boots}) == 3
    for guest in guests:
        assert f"Hello from {guest.id}" in await get(guest.host_port)


async def test_a_guest_outlives_the_hub(host, hello_image):
    hello = cold_guest(host, "hello", hello_image)
    await host.launch(hello)
    push = await host.healthy(hello)
    await host.hub.kill("n1")
    seen = asyncio.get_running_loop().time()
    await host.hub.run("n1", term=2)
    later = await host.healthy(hello, since=seen)
    assert later["boot_id"] == push["boot_id"]
    assert later["sequence"] > push["sequence"]


DICE = """
import json, os, random, socket, ssl, time, uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Dice(BaseHTTPRequestHandler):
    def do_GET(self):
        drawn = {
            "kernel": os.urandom(8).hex(),
            "python": random.random(),
            "openssl": ssl.RAND_bytes(8).hex(),
            "uuid": str(uuid.uuid4()),
            "boot id": Path("/proc/sys/kernel/random/boot_id").read_text(),
            "mac": Path("/sys/class/net/eth0/address").read_text(),
            "name": socket.gethostname(),
            "guest": os.environ["SAPPERS_ALLOCATION_ID"],
            "link": os.environ["SAPPERS_LINK_DB"],
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"drawn": drawn, "now": time.time()}).encode())


HTTPServer(("", 8080), Dice).serve_forever()
"""


def build_dice(store: FolderImageStore, folder: Path) -> str:
    """An image that answers with random numbers; its definition is written below the folder."""
    definition = folder / "definitions" / "dice"
    definition.mkdir(parents=True)
    (definition / "image.toml").write_text(
        'kinds = ["microvm"]\nport = 8080\n[application]\nmodule = "dice"\nfiles = ["dice.py"]\n'
    )
    (definition / "dice.py").write_text(DICE)
    return build_image(store, "dice", definition.parent)


async def test_guests_start_from_a_template_and_have_nothing_in_common(host, tmp_path, monkeypatch):
    digest = build_dice(host.store, tmp_path)
    assert "made in" in await host.launcher.warm(host.manifest(digest), digest)
    assert "already" in await host.launcher.warm(host.manifest(digest), digest)

    clones = [host.allocation("dice", digest, number) for number in range(2)]
    answers = [await answer_of(host, clone) for clone in clones]
    assert [answer["drawn"]["guest"] for answer in answers] == [clone.id for clone in clones]
    places = [f"10.0.2.2:{link_port(clone.id)}" for clone in clones]
    assert [answer["drawn"]["link"] for answer in answers] == places
    one, other = (answer["drawn"] for answer in answers)
    assert not [name for name in one if one[name] == other[name]]
    assert all(abs(answer["now"] - answer["came_at"]) < 30.0 for answer in answers)
    reasons = [guest.reason for guest in (await host.launcher.observe()).values()]
    assert reasons == ["started from a template"] * 2
    boots = [await host.healthy(clone) for clone in clones]
    assert boots[0]["boot_id"] != boots[1]["boot_id"]

    # Who connects the moment that its port opens comes to the guest, whose application may not
    # listen yet; it is not QEMU that has forgotten it and comes back to it after six seconds.
    early = host.allocation("dice", digest, 2)
    connected = asyncio.create_task(end_of_the_first_connection(early.host_port))
    await host.launch(early)
    async with asyncio.timeout(5.0):
        assert await connected in ("answered", "reset")

    # That somebody takes the port after it was found free is no fault of the template.
    late = host.allocation("dice", digest, 4)
    with monkeypatch.context() as patched, socket.create_server(("127.0.0.1", late.host_port)):
        patched.setattr(qemu, "check_free", lambda *_: None)
        with pytest.raises(PortTaken):
            await host.launch(late)
    assert list((host.folder / "templates").glob("[!.]*"))

    # Nor is it that no leader is known any more by the time that it is to be told who it is.
    asked: list[str] = []

    def known_at_first(allocation_id: str) -> GuestScope | None:
        asked.append(allocation_id)
        return scope_by_name(allocation_id) if len(asked) == 1 else None

    untold, host.scope_of = host.allocation("dice", digest, 5), known_at_first
    await host.launch(untold)
    host.scope_of = scope_by_name
    reason = (await host.launcher.observe())[untold.id].reason
    assert reason.startswith("cold boot: it could not be cloned: "), reason
    assert list((host.folder / "templates").glob("[!.]*"))
    await host.launcher.stop(untold.id, 0.0)

    # Nor is it that a host without memory kills a QEMU.
    restore = Monitor.restore

    async def restore_killed(qemu: Monitor, device: int) -> None:
        unit = await host.supervisor.status(f"sappers-guest-{killed.id}")
        os.kill(unit.pid, signal.SIGKILL)
        await restore(qemu, device)

    killed = host.allocation("dice", digest, 6)
    with monkeypatch.context() as patched:
        patched.setattr(Monitor, "restore", restore_killed)
        await host.launch(killed)
    reason = (await host.launcher.observe())[killed.id].reason
    assert reason.startswith("cold boot: it could not be cloned: "), reason
    assert list((host.folder / "templates").glob("[!.]*"))
    await host.launcher.stop(killed.id, 0.0)

    # What cannot be restored is removed, and the guest comes up all the same.
    (template,) = (host.folder / "templates").glob("[!.]*")
    garbage = b"no machine" * 1000
    record = msgspec.json.decode((template / "template.json").read_bytes())
    record["device_digest"] = hashlib.sha256(garbage).hexdigest()
    (template / "device").write_bytes(garbage)
    (template / "template.json").write_bytes(msgspec.json.encode(record))
    host.launcher = host.make_launcher()  # an agent that holds nothing in memory yet
    third = host.allocation("dice", digest, 3)
    answer = await answer_of(host, third)
    assert answer["drawn"]["guest"] == third.id
    reason = (await host.launcher.observe())[third.id].reason
    assert reason.startswith("cold boot: its template did not come up: ")
    assert not template.exists()
    # The clones of before are as well as ever.
    await host.healthy(clones[0], since=time.monotonic())


async def end_of_the_first_connection(port: int) -> str:
    """What becomes of the first connection that is not refused."""
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                return "answered" if await reader.read() else "hung up"
            except ConnectionResetError:
                return "reset"
            finally:
                writer.close()
        await asyncio.sleep(0.005)


async def answer_of(host: GuestHost, guest: Allocation) -> dict:
    """What it draws, once it answers; says how long that took."""
    begin = time.monotonic()
    await host.launch(guest)
    text = await get(guest.host_port)
    came_at = time.time()
    reason = (await host.launcher.observe())[guest.id].reason
    print(f"{guest.id}: {time.monotonic() - begin:.2f} s, {reason}")
    return msgspec.json.decode(text.partition("\r\n\r\n")[2]) | {"came_at": came_at}
