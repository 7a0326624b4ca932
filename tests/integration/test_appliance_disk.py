"""An appliance's root and disk, made by the real tools: mmdebstrap, mke2fs, mtools, syslinux."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import time
from functools import partial
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images.appliance_disk import build_disk
from sappers.images.appliance_root import PACKAGES, Archive, build_root, resolve_closure
from sappers.lab.base_root import archive_settings, debian_sources
from tests.appliance_roots import root_tar
from tests.waiting import wait_until

TOOLS = ("mke2fs", "sfdisk", "mcopy", "mkfs.vfat", "syslinux", "debugfs")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
DISK_MIB = 256
MIB = 1 << 20
pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool, path=PATH) for tool in TOOLS), reason="a tool is not here"
)


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    folder = tmp_path / "overlay"
    (folder / "usr/lib/sappers").mkdir(parents=True)
    (folder / "usr/lib/sappers/seed").write_text("#!/bin/sh\n")
    (folder / "usr/lib/sappers/seed").chmod(0o700)  # of a checkout whose umask is 077
    return folder


def made(tmp_path: Path, overlay: Path, name: str, **more: bytes) -> Path:
    root = root_tar(tmp_path / f"{name}.tar", **more)
    return build_disk(root, overlay, DISK_MIB, "key", tmp_path / name)


def another_second(than: int) -> bool:
    return int(time.time()) > than


def output_of(*command: str) -> str:
    done = subprocess.run(command, env=os.environ | {"PATH": PATH}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_disk_has_what_bios_and_uefi_look_for(tmp_path: Path, overlay: Path) -> None:
    disk = made(tmp_path, overlay, "disk")

    table = json.loads(output_of("sfdisk", "--json", str(disk)))["partitiontable"]
    boot, root = table["partitions"]
    assert table["label"] == "gpt"
    assert boot["type"].startswith("C12A7328") and boot["attrs"] == "LegacyBIOSBootable"
    assert root["type"].startswith("4F68BCE3")
    with disk.open("rb") as file:
        start = file.read(512)
    assert start[510:] == b"\x55\xaa" and any(start[:440])
    fat = f"{disk}@@{boot['start'] * 512}"
    assert output_of("mtype", "-i", fat, "::vmlinuz") == "kernel"
    assert output_of("mtype", "-i", fat, "::initrd") == "initramfs"
    assert output_of("mtype", "-i", fat, "::EFI/BOOT/BOOTX64.EFI") == "loader"
    lines = [
        output_of("mtype", "-i", fat, place).split("root=UUID=")[1].split()[0]
        for place in ("::syslinux.cfg", "::loader/entries/sappers.conf")
    ]
    ext4 = f"{disk}?offset={root['start'] * 512}"
    assert f"Filesystem UUID:          {lines[0]}" in output_of("dumpe2fs", "-h", ext4)
    assert lines[0] == lines[1]


def test_files_keep_their_modes_and_belong_to_root(tmp_path: Path, overlay: Path) -> None:
    disk = made(tmp_path, overlay, "disk")

    part = tmp_path / "root.ext4"
    with disk.open("rb") as whole, part.open("wb") as file:
        whole.seek(161 * MIB)
        shutil.copyfileobj(whole, file)
    seed, kernel, become = (
        output_of("debugfs", "-R", f"stat {path}", str(part))
        for path in ("/usr/lib/sappers/seed", "/boot/vmlinuz-6.1", "/usr/bin/su")
    )
    assert "Mode:  0755" in seed and "Mode:  0640" in kernel and "Mode:  04755" in become
    for shown in (seed, kernel, become):
        assert "User:     0   Group:     0" in shown
    fstab = output_of("debugfs", "-R", "cat /etc/fstab", str(part))
    assert " / ext4 " in fstab and " /efi vfat " in fstab


def test_a_root_makes_the_same_disk_whenever_and_by_whomever_it_is_unpacked(
    tmp_path: Path, overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "mke2fs.conf"
    settings.write_text("[defaults]\n\tbase_features = sparse_super\n\tinode_size = 128\n")
    theirs = {
        "TAR_OPTIONS": "--exclude=./usr/bin/su",
        "MKE2FS_CONFIG": str(settings),
        "MTOOLS_NO_VFAT": "1",
    }
    digests = set()
    for name, environment, umask in (("one", {}, 0o022), ("other", theirs, 0o077)):
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        before = os.umask(umask)
        try:
            disk = made(tmp_path, overlay, name)
        finally:
            os.umask(before)
        written = int(disk.stat().st_ctime)
        with disk.open("rb") as file:
            digests.add(hashlib.file_digest(file, "sha256").hexdigest())
        wait_until("the clock shows another second", partial(another_second, written))

    assert len(digests) == 1


def test_a_root_that_does_not_fit_is_an_error_that_says_so(tmp_path: Path, overlay: Path) -> None:
    with pytest.raises(ImageError, match="failed") as refused:
        made(tmp_path, overlay, "disk", large=os.urandom(120 * MIB))

    assert refused.value.hint is not None and "disk_mib" in refused.value.hint


@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="mmdebstrap is not here")
def test_the_same_packages_make_the_same_root(tmp_path: Path) -> None:
    archive = Archive(debian_sources(), archive_settings())
    assert {"openssh-server", "libc6"} <= {
        package.name for package in resolve_closure(PACKAGES, {})
    }
    digests = set()
    for name in ("one.tar", "other.tar"):
        build_root(PACKAGES, archive, tmp_path / name, tmp_path)
        with (tmp_path / name).open("rb") as file:
            digests.add(hashlib.file_digest(file, "sha256").hexdigest())

    assert len(digests) == 1
    with tarfile.open(tmp_path / "one.tar") as tar:
        names = set(tar.getnames())
        machine_id = tar.extractfile("./etc/machine-id")
        assert machine_id is not None and machine_id.read() == b""
    assert not [name for name in names if "ssh_host_" in name]
