"""Roots of appliances with as little in them as makes a disk."""

from __future__ import annotations

import io
import random
import tarfile
import time
from pathlib import Path

LINKS = {"vmlinuz": "boot/vmlinuz-6.1", "initrd.img": "boot/initrd.img-6.1"}
FILES = {
    "boot/vmlinuz-6.1": b"kernel",
    "boot/initrd.img-6.1": b"initramfs",
    "usr/lib/systemd/boot/efi/systemd-bootx64.efi": b"loader",
    "etc/fstab": b"none\n",
    "usr/bin/su": b"program",
}
MODES = {"usr/bin/su": 0o4755}


def root_tar(path: Path, **more: bytes) -> Path:
    """A root as mmdebstrap or a machine hands it out: just now, in an order of its own."""
    members = [_file(name, content) for name, content in {**FILES, **more}.items()]
    members += [_link(name, target) for name, target in LINKS.items()]
    random.shuffle(members)
    again = tarfile.TarInfo("./boot/vmlinuz-again")
    again.type, again.linkname = tarfile.LNKTYPE, "./boot/vmlinuz-6.1"
    with tarfile.open(path, "w") as tar:
        for entry, content in (*members, (again, b"")):
            entry.mtime = time.time()
            tar.addfile(entry, io.BytesIO(content))
    return path


def _file(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(f"./{name}")
    entry.size, entry.mode = len(content), MODES.get(name, 0o640)
    return entry, content


def _link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(f"./{name}")
    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
    return entry, b""
