"""Building images for real: reproducible, cached, whole or not at all; and what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from sappers.errors import ImageDefinitionError, ImageError
from sappers.images import debian
from sappers.images.definition import load_definition, placing
from sappers.images.microvm import MicrovmBuilder
from sappers.model.image import MicrovmBoot
from tests.image_stores import KEY, make_store
from tests.integration.guests import (
    BOOT_SECONDS,
    PROJECT,
    GuestHost,
    build_image,
    cold_guest,
    get,
    image_cache,
)
from tests.unit.images.containers import Layout, file, folder, layer, symlink
from tests.waiting import eventually

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("lz4"), reason="needs lz4"),
    pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt"),
]
needs_qemu = pytest.mark.skipif(
    not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86"
)
LOCK = PROJECT / "requirements" / "agent.lock"


def build(
    images: Path, cache: Path, name: str = "hello", definitions: Path = PROJECT / "unikernels"
) -> tuple[str, bool]:
    builder = MicrovmBuilder(make_store(images), cache, LOCK, KEY)
    definition = load_definition(definitions, name)
    return builder.build(name, definition, definitions / name, lambda _: None)


def define(definitions: Path, name: str, text: str, **files: bytes) -> Path:
    (definitions / name).mkdir(parents=True)
    (definitions / name / "image.toml").write_text(text)
    for file_name, content in files.items():
        (definitions / name / file_name.replace("_", ".")).write_bytes(content)
    return definitions


BUILD_ELSEWHERE = """
import sys
from pathlib import Path
from tests.integration.test_guest_images import build
for _ in range(2):
    print(*build(Path(sys.argv[1]), Path(sys.argv[2]), "hello", Path(sys.argv[3])))
"""


def test_the_same_inputs_give_the_same_image(tmp_path):
    """Whatever the folder, its times, the umask, the time zone and the locale."""
    cached, _ = build(tmp_path / "one", image_cache())
    # Packages are what apt verified; everything made from them is made again.
    shutil.copytree(image_cache() / "packages", tmp_path / "cache" / "packages")
    shutil.copytree(PROJECT / "unikernels" / "hello", tmp_path / "elsewhere" / "hello")
    os.utime(tmp_path / "elsewhere" / "hello" / "hello.py", (1, 1))
    places = (tmp_path / "two", tmp_path / "cache", tmp_path / "elsewhere")
    again = subprocess.run(
        [sys.executable, "-c", BUILD_ELSEWHERE, *map(str, places)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "TZ": "Asia/Tokyo", "LANG": "C"},
        umask=0o077,
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout.split() == [cached, "True", cached, "False"]


def test_one_changed_file_changes_one_chunk_in_twenty_at_most(tmp_path):
    text = 'kinds = ["microvm"]\n[application]\nscript = "app.py"\n'
    definitions = define(tmp_path / "definitions", "app", text, app_py=b"print(1)\n")
    store = make_store(tmp_path / "images")
    before = store.manifest(build(tmp_path / "images", image_cache(), "app", definitions)[0])
    (definitions / "app" / "app.py").write_text("import json\nprint('something longer')\n")
    after = store.manifest(build(tmp_path / "images", image_cache(), "app", definitions)[0])
    sent = set(after.chunks()) - set(before.chunks())
    sizes = {chunk: len(store.read_chunk(chunk)) for chunk in after.chunks()}
    assert sent
    assert sum(sizes[chunk] for chunk in sent) <= 0.05 * sum(sizes.values())


def test_a_store_that_lost_a_chunk_gets_it_again(tmp_path):
    digest, _ = build(tmp_path / "images", image_cache())
    store = make_store(tmp_path / "images")
    lost = store.manifest(digest).boot.initrd.chunks[0]
    (tmp_path / "images" / "chunks" / lost[:2] / lost).unlink()
    assert build(tmp_path / "images", image_cache()) == (digest, True)
    store.verify(digest)


@pytest.mark.parametrize("what", ["images", "cache"])
def test_a_full_disk_is_said_and_leaves_nothing_half_done(tmp_path, what):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20M", "none", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs root to mount a small disk")
    try:
        images = small / "images" if what == "images" else tmp_path / "images"
        cache = small / "cache" if what == "cache" else image_cache()
        with pytest.raises(ImageError) as caught:
            build(images, cache)
        assert "room" in caught.value.message or "space" in caught.value.message.lower()
        assert make_store(images).named() == {}
        left = [path.name for path in images.rglob("*") if path.is_file()]
        assert not [name for name in left if name.startswith(".new-")]
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.skipif(not Path("/usr/bin/mkfs.erofs").exists(), reason="needs erofs-utils")
def test_a_missing_library_names_the_package_to_list(tmp_path):
    program = Path("/usr/bin/mkfs.erofs").read_bytes()
    text = 'kinds = ["microvm"]\n[application]\nbinary = "app"\n'
    definitions = define(tmp_path / "definitions", "app", text, app=program)
    with pytest.raises(ImageError, match=r"app needs libselinux\.so\.1") as caught:
        build(tmp_path / "images", image_cache(), "app", definitions)
    assert 'packages = ["libselinux1"]' in caught.value.hint
    path = definitions / "app" / "image.toml"
    path.write_text(text + 'packages = ["libselinux1", "liblz4-1"]\n')
    build(tmp_path / "images", image_cache(), "app", definitions)


def test_a_module_that_no_file_holds_is_named_with_its_line(tmp_path):
    text = 'kinds = ["microvm"]\n[application]\nmodule = "gone.part"\nfiles = ["app.py"]\n'
    definitions = define(tmp_path / "definitions", "app", text, app_py=b"")
    with (
        pytest.raises(ImageDefinitionError, match=r"image\.toml:3:1: .* no module gone\.part"),
        placing(definitions, "app"),
    ):
        build(tmp_path / "images", image_cache(), "app", definitions)


def test_a_command_that_no_package_has_is_refused(tmp_path):
    text = 'kinds = ["microvm"]\n[application]\ncommand = ["gone"]\npackages = ["busybox-static"]\n'
    definitions = define(tmp_path / "definitions", "app", text)
    with pytest.raises(ImageError, match="program gone"):
        build(tmp_path / "images", image_cache(), "app", definitions)


SCRIPT = """#!/bin/sh
mkdir www
{ id; pwd; echo "$GREETING"; cat /etc/resolv.conf; grep CapBnd /proc/self/status
  cat /proc/1/environ || echo hidden
  mount -t tmpfs none www || echo powerless
} > www/index.html 2>&1
exec httpd -f -p 80 -h www
"""
APPLETS = ("cat", "grep", "httpd", "id", "mkdir", "mount", "pwd", "sh")


def busybox_of(name: str) -> bytes:
    """The program of one of Debian's packages of it."""
    (package,) = (one for one in debian.resolve([name]) if one.name == name)
    packages = image_cache() / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=image_cache()) as work:
        debian.fetch([package], packages, Path(work))
    content = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(packages / package.file)],
        capture_output=True,
        check=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.extractfile("./bin/busybox").read()


def container(path: Path) -> Path:
    """An image of Debian's static busybox, one script and one user."""
    base = layer(
        folder("bin"),
        file("bin/busybox", busybox_of("busybox-static"), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in APPLETS),
        folder("srv", uid=33, gid=33),
        file("entry.sh", "old", mode=0o755),
    )
    top = layer(
        file("etc/passwd", "web:x:33:33::/srv:/bin/sh\n"), file("entry.sh", SCRIPT, mode=0o755)
    )
    layout = Layout()
    image = layout.image(
        [base, top],
        Entrypoint=["/entry.sh"],
        Env=["GREETING=hello from a container"],
        WorkingDir="/srv",
        User="web",
        ExposedPorts={"80/tcp": {}},
    )
    return layout.index(image).write_tar(path)


@needs_qemu
@pytest.mark.parametrize(("memory_mib", "on_disk"), [(128, False), (96, True)])
async def test_a_container_runs_as_its_user_in_its_root(tmp_path, memory_mib, on_disk):
    """As an initramfs; and from a disk, where there is no room for one."""
    text = (
        f'kinds = ["microvm"]\nmemory_mib = {memory_mib}\n[application]\n'
        'container = "app.tar"\n[health]\ncheck = "http"\n'
    )
    definitions = define(tmp_path / "definitions", "app", text)
    container(tmp_path / "app.tar").rename(definitions / "app" / "app.tar")
    host = GuestHost(tmp_path / "host")
    await host.start()
    try:
        digest = build_image(host.store, "app", definitions)
        boot = host.manifest(digest).boot
        assert isinstance(boot, MicrovmBoot)
        assert (boot.root is not None) == on_disk
        guest = host.allocation("app", digest)
        await host.launch(guest)
        await host.healthy(guest)
        said = await get(guest.host_port)
    finally:
        await host.stop()
    for words in ("uid=33(web)", "/srv", "hello from a container", "nameserver", "hidden"):
        assert words in said
    assert "powerless" in said and "CapBnd:\t00000000a00025fb" in said


@needs_qemu
async def test_a_container_whose_user_may_not_enter_its_folder_says_so(tmp_path):
    text = (
        'kinds = ["microvm"]\n[application]\ncontainer = "app.tar"\n[health]\ncheck = "process"\n'
    )
    definitions = define(tmp_path / "definitions", "app", text)
    files = layer(file("bin/app", "no program", mode=0o755), folder("secret", mode=0o700))
    layout = Layout()
    image = layout.image([files], Cmd=["/bin/app"], WorkingDir="/secret", User="33:33")
    layout.index(image).write_tar(definitions / "app" / "app.tar")
    host = GuestHost(tmp_path / "host")
    await host.start()
    try:
        guest = cold_guest(host, "app", build_image(host.store, "app", definitions))
        await host.launch(guest)
        await eventually(lambda: host.pushes.get(guest.id))
        push = host.pushes[guest.id][-1]
        assert not push["healthy"]
        assert push["reason"] == "the application ended with exit code 1"
        assert "Permission denied: '/secret'" in await host.launcher.serial_log(guest.id, 5000)
    finally:
        await host.stop()


PROGRAM = """kinds = ["microvm"]
port = 8080
[application]
binary = "busybox"
arguments = ["sh", "start.sh"]
files = ["start.sh", "www"]
[environment]
GREETING = "hello to you"
[health]
check = "http"
path = "/said"
"""
# All that it runs is the program itself: there is nothing else in the guest.
START = b"""set -e
run=/app/busybox
$run cp -r /app/www /tmp/www
{ echo "$GREETING"; echo "at $SAPPERS_PORT"; $run id -u; } >/tmp/www/said
exec $run httpd -f -p $SAPPERS_PORT -h /tmp/www
"""
DAEMON = """kinds = ["microvm"]
port = 6379
memory_mib = 160
[application]
command = ["redis-server", "--protected-mode", "no"]
packages = ["redis-server"]
[health]
check = "tcp"
"""


@needs_qemu
async def test_static_and_dynamic_programs_and_a_debian_daemon_boot_and_answer(tmp_path):
    """With the files and the environment of their definitions; the daemon is the manual's."""
    definitions = tmp_path / "definitions"
    for name, package in (("static", "busybox-static"), ("dynamic", "busybox")):
        program = busybox_of(package)
        define(definitions, name, PROGRAM, busybox=program, start_sh=START)
        (definitions / name / "www" / "deep").mkdir(parents=True)
        (definitions / name / "www" / "deep" / "page").write_text(f"a page of the {name} one")
    define(definitions, "daemon", DAEMON)
    host = GuestHost(tmp_path / "host")
    await host.start()
    try:
        guests = {
            name: cold_guest(host, name, build_image(host.store, name, definitions))
            for name in ("static", "dynamic", "daemon")
        }
        await asyncio.gather(*map(host.launch, guests.values()))
        for name in ("static", "dynamic"):
            port = guests[name].host_port
            assert f"a page of the {name} one" in await get(port, "/deep/page")
            said = (await get(port, "/said")).partition("\r\n\r\n")[2]
            assert said.splitlines() == ["hello to you", "at 8080", "1000"]
        await eventually(lambda: answers_ping(guests["daemon"].host_port), BOOT_SECONDS)
        for guest in guests.values():
            await host.healthy(guest)
    finally:
        await host.stop()


async def answers_ping(port: int) -> bool:
    """Whether a Redis answers there."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(5.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
    return False
