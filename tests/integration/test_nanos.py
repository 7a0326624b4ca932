"""Nanos unikernels: made by `ops` itself, and booted where there is a Nanos kernel.

`ops` comes from PATH, or from Go. The kernel comes from NANOS_DIR or OPS_HOME; images are made of
any file that is called so, guests need a real one.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import msgspec
import pytest

from sappers.errors import ImageError
from sappers.images import ops
from sappers.images.definition import load_definition
from sappers.images.nanos import NanosBuilder
from sappers.images.nanos_disk import root_start, tree
from sappers.images.store import FolderImageStore
from sappers.launchers.guest_folder import SPARE_PREFIX, GuestFolder
from sappers.launchers.guest_identity import mac_for
from sappers.model.allocation import Allocation
from sappers.model.image import NanosBoot
from tests.image_stores import KEY, damage_unseen, make_store
from tests.integration.guests import PROJECT, GuestHost, get, image_cache, link_port
from tests.integration.hubs import Inbox
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(900)
DEFINITIONS = PROJECT / "unikernels"


@pytest.fixture(scope="module")
def ops_folder() -> Path:
    """A folder for PATH with `ops` in it."""
    try:
        return ops.find_ops(os.environ, image_cache().parent / "tools", print).parent
    except ImageError as error:
        pytest.skip(f"no ops: {error}")


@pytest.fixture
def any_kernel(tmp_path: Path) -> Path:
    """Files that are called as a Nanos kernel's are: images of them can be made, but not booted."""
    folder = tmp_path / "nanos"
    folder.mkdir()
    (folder / "kernel.img").write_bytes(b"no kernel" * 1000)
    # A loader says how much of it follows its first sector; type 12 is that of a file system.
    follows = struct.pack("<QI", 2048 - 512, 12)
    loader = bytes(434) + follows + bytes(64) + b"\x55\xaa" + bytes(2048 - 512)
    (folder / "boot.img").write_bytes(loader)
    return folder


def find_program(tmp_path: Path) -> str:
    """PATH with `ops`, under whatever name it is kept."""
    found = ops.find_ops(os.environ, image_cache().parent / "tools", print)
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    if not (folder / "ops").exists():
        (folder / "ops").symlink_to(found)
    return f"{folder}:{os.environ['PATH']}"


def build(
    store: FolderImageStore,
    tmp_path: Path,
    kernel: Path | None,
    name: str = "hello",
    folder: Path = DEFINITIONS,
    cache: Path | None = None,
) -> tuple[str, bool]:
    environment = {**os.environ, "PATH": find_program(tmp_path)}
    if kernel is not None:
        environment["NANOS_DIR"] = str(kernel)
    lock = PROJECT / "requirements" / "agent.lock"
    tools = tmp_path / "tools"
    builder = NanosBuilder(store, cache or image_cache(), lock, KEY, environment, tools)
    return builder.build(name, load_definition(folder, name), folder / name, print)


def other_cache(tmp_path: Path) -> Path:
    """A cache that knows packages and roots, but no image that was built before."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("packages", "wheels", "roots"):
        if (image_cache() / name).exists():
            (cache / name).symlink_to(image_cache() / name)
    return cache


def test_ops_makes_the_same_image_twice_and_what_is_known_is_not_made_again(
    ops_folder, any_kernel, tmp_path
):
    first, second = make_store(tmp_path / "first"), make_store(tmp_path / "second")
    digest, made = build(first, tmp_path, any_kernel, cache=other_cache(tmp_path))
    assert made
    assert build(first, tmp_path, any_kernel, cache=tmp_path / "cache") == (digest, False)
    shutil.rmtree(tmp_path / "cache" / "builds")
    assert build(second, tmp_path, any_kernel, cache=tmp_path / "cache") == (digest, True)
    (any_kernel / "kernel.img").write_bytes(b"another")
    assert build(first, tmp_path, any_kernel, cache=tmp_path / "cache")[0] != digest


def test_the_image_holds_the_program_its_settings_and_the_sidecar(ops_folder, any_kernel, tmp_path):
    store = make_store(tmp_path / "images")
    digest, _ = build(store, tmp_path, any_kernel)
    boot = store.assemble(digest).boot
    assert isinstance(boot, NanosBoot)
    with store.blob_path(boot.disk.digest).open("rb") as disk:
        root = tree(disk, root_start(disk))
    assert root["program"] == b"/usr/bin/python3.11"
    assert root["arguments"][1:] == [b"-IS", b"/init.py"]
    children = root["children"]
    assert "hello.pyc" in children["app"]["children"]
    assert "guest.json" in children["etc"]["children"]["sappers"]["children"]
    # The same disk, as ops reads it.
    home, told = tmp_path / "home", "/etc/sappers/guest.json"
    ops.prepare_home(home)
    image = home / ".ops" / "images" / "it"
    image.parent.mkdir(exist_ok=True)
    shutil.copy(store.blob_path(boot.disk.digest), image)
    done = subprocess.run(
        [find_program(tmp_path).partition(":")[0] + "/ops", "image", "cat", "it", told],
        env={"HOME": str(home), "OPS_HOME": str(home), "HTTPS_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        check=False,
    )
    assert b'"application": "hello"' in done.stdout, done.stderr


def test_without_a_kernel_nothing_is_made_and_the_way_out_is_named(ops_folder, tmp_path):
    store = make_store(tmp_path / "images")
    with pytest.raises(ImageError, match=r"lacks kernel\.img and boot\.img") as caught:
        build(store, tmp_path, tmp_path / "nowhere")
    assert "NANOS_DIR" in (caught.value.hint or "")
    assert store.named() == {}


@pytest.fixture(scope="module")
def kernel(ops_folder) -> None:
    try:
        ops.find_kernel(os.environ)
    except ImageError as error:
        pytest.skip(f"no Nanos guest can be booted: {error}")


@pytest.fixture
async def host(tmp_path, kernel):
    host = GuestHost(tmp_path)
    await host.start()
    yield host
    await host.stop()


def guest(host: GuestHost, name: str, number: int = 0, folder: Path = DEFINITIONS) -> Allocation:
    digest, _ = build(host.store, host.folder, None, name, folder)
    return host.allocation(name, digest, number)


async def test_a_unikernel_answers_is_healthy_and_switches_itself_off(host):
    hello = msgspec.structs.replace(guest(host, "hello"), cold=True)
    await host.launch(hello)
    push = await host.healthy(hello)
    assert f"Hello from {hello.id}" in await get(hello.host_port)
    assert (await host.healthy(hello, since=push["at"]))["boot_id"] == push["boot_id"]
    await host.launcher.stop(hello.id, 5.0)
    assert await host.launcher.observe() == {}
    assert "shutting-down" in await host.launcher.serial_log(hello.id, 10_000)


@pytest.mark.parametrize("name", ["healer", "monitor"])
async def test_what_runs_inside_the_sidecar_runs_there_in_a_unikernel(name, host):
    it = guest(host, name)
    await host.launch(it)
    await host.healthy(it)
    if it.host_port:
        assert "200" in await get(it.host_port, "/metrics")


async def test_an_agent_that_restarts_finds_it_and_can_end_it(host):
    hello = guest(host, "hello")
    await host.launch(hello)
    await host.healthy(hello)
    host.launcher = host.make_launcher()
    assert (await host.launcher.observe())[hello.id].running
    await host.launcher.stop(hello.id, 5.0)
    assert await host.launcher.observe() == {}


async def test_clones_are_told_who_they_are_and_share_no_random_numbers(host, tmp_path):
    folder = tmp_path / "definitions" / "dice"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text(
        'kinds = ["nanos"]\n[application]\nmodule = "dice"\nfiles = ["dice.py"]\n'
        "in_process = true\n"
    )
    (folder / "dice.py").write_text(
        "import asyncio, fcntl, os, random, socket, ssl, sys, uuid\n"
        "from sappers.sidecar import link\n"
        "def card():\n"
        "    asked = b'en1'.ljust(256, bytes(1))\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:\n"
        "        return fcntl.ioctl(any_socket, 0x8927, asked)[18:24].hex(':')\n"
        "async def run(guest):\n"
        "    drawn = os.urandom(8).hex(), random.random(), ssl.RAND_bytes(8).hex()\n"
        "    print('drawn', guest.allocation_id, *drawn, uuid.uuid4(), card(), link('db'))\n"
        "    sys.stdout.flush()\n"
        "    guest.report()\n"
        "    await asyncio.Event().wait()\n"
    )
    guests = [guest(host, "dice", number, folder.parent) for number in range(3)]
    digest = guests[0].image.digest
    await host.launcher.warm(host.manifest(digest), digest)
    for each in guests:
        spare = await host.spare() if each is guests[2] else ""
        await host.launch(each)
        assert not spare or GuestFolder(host.folder / "guests", each.id).unit == spare
        assert (await host.launcher.observe())[each.id].reason == "started from a template"
    lines = []
    for each in guests:
        await host.healthy(each)
        log = await host.launcher.serial_log(each.id, 10_000)
        (line,) = (line for line in log.splitlines() if line.startswith("drawn"))
        lines.append(line.split()[1:])
    assert [line[0] for line in lines] == [each.id for each in guests]
    # The last was a spare, and has the MAC of that.
    names = [guests[0].id, guests[1].id, spare.replace(SPARE_PREFIX, "spare-")]
    assert [line[-2] for line in lines] == [mac_for(name) for name in names]
    assert [line[-1] for line in lines] == [f"10.0.2.2:{link_port(one.id)}" for one in guests]
    assert all(len(set(each)) == len(guests) for each in zip(*lines, strict=True))

    # A spare has its disk open since before that changed: it is not used, its guest cloned.
    boot = host.manifest(digest).boot
    assert isinstance(boot, NanosBoot)
    spare = await host.spare()
    damage_unseen(host.store.blob_path(boot.disk.digest))
    late = guest(host, "dice", 3, folder.parent)
    await host.launch(late)
    assert GuestFolder(host.folder / "guests", late.id).unit == f"sappers-guest-{late.id}"
    await host.healthy(late)
    assert spare not in {unit.name for unit in await host.supervisor.list("sappers-guest-")}

    # No clone runs from a disk that has changed, even without a trace in its times.
    host.launcher = host.make_launcher()
    damage_unseen(host.store.blob_path(boot.disk.digest))
    last = guest(host, "dice", 4, folder.parent)
    await host.launch(last)
    reason = (await host.launcher.observe())[last.id].reason
    assert reason.startswith("cold boot: ") and boot.disk.digest in reason
    await host.healthy(last)


async def test_a_program_that_ends_makes_it_unhealthy_and_one_that_crashes_ends_it(host, tmp_path):
    for name, text in (("ends", "import sys; sys.exit(3)"), ("dies", "import os; os._exit(42)")):
        folder = tmp_path / "definitions" / name
        folder.mkdir(parents=True)
        (folder / "image.toml").write_text(
            f'kinds = ["nanos"]\n[application]\nscript = "{name}.py"\n'
        )
        (folder / f"{name}.py").write_text(f"{text}\n")
    ends, dies = (guest(host, name, 0, tmp_path / "definitions") for name in ("ends", "dies"))
    await host.launch(ends)
    await eventually(lambda: host.pushes.get(ends.id))
    assert host.pushes[ends.id][-1]["reason"] == "the application ended with exit code 3"
    await host.launch(dies)
    assert await host.ended(dies) == "the guest's program ended with exit code 42"


async def test_a_program_speaks_to_the_hub_through_the_sidecars_socket(host, tmp_path):
    folder = tmp_path / "definitions" / "talks"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text('kinds = ["nanos"]\n[application]\nscript = "talks.py"\n')
    (folder / "talks.py").write_text(
        "from sappers.sidecar import connect\n"
        "hub = connect()\n"
        "asked = hub.subscribe('asked')\n"
        "hub.publish('up', hub.allocation_id.encode())\n"
        "for message in asked:\n"
        "    hub.reply(message, b'yes')\n"
    )
    talks, said = guest(host, "talks", 0, folder.parent), Inbox()
    agent = await host.hub.client("n1")
    await agent.subscribe("sappers.app.talks.up", said)
    await host.launch(talks)
    await eventually(lambda: said.messages)
    assert said.messages == [("sappers.app.talks.up", talks.id.encode())]
    assert await agent.ask("sappers.app.talks.asked", b"?", 60.0) == b"yes"
