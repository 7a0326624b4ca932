"""The guest's kernel: Debian's cloud kernel as a PVH `vmlinux`, and the modules a guest needs.

The compressed `vmlinuz` would be unpacked by the guest at each boot; unpacked once here it boots
faster.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sappers.errors import ImageError

# In a guest: network, the control port, randomness. Their dependencies are found in the files.
MODULES = ("virtio_mmio", "virtio_net", "virtio_console", "virtio_rng")
# To reach a root file system on a disk.
DISK_MODULES = ("virtio_mmio", "virtio_blk", "erofs", "overlay")

_SETUP_MAGIC, _SETUP_MAGIC_AT, _SETUP_SECTORS_AT, _PAYLOAD_AT = b"HdrS", 0x202, 0x1F1, 0x248
_LZ4_LEGACY_MAGIC = b"\x02\x21\x4c\x18"
_TRAILING_SIZE_BYTES = 4


def payload_of(vmlinuz: bytes) -> bytes:
    """The LZ4 data inside a bzImage, by its setup header.

    Raises:
        ImageError: It is no bzImage, or packed otherwise.
    """
    if vmlinuz[_SETUP_MAGIC_AT : _SETUP_MAGIC_AT + 4] != _SETUP_MAGIC:
        raise ImageError("the kernel is no bzImage")
    sectors = vmlinuz[_SETUP_SECTORS_AT] or 4
    offset, length = struct.unpack_from("<II", vmlinuz, _PAYLOAD_AT)
    start = (sectors + 1) * 512 + offset
    payload = vmlinuz[start : start + length - _TRAILING_SIZE_BYTES]
    if not payload.startswith(_LZ4_LEGACY_MAGIC):
        raise ImageError("the kernel is not packed with LZ4, as Debian 12's is")
    return payload


def unpack_kernel(vmlinuz: Path, vmlinux: Path) -> None:
    """Write the ELF kernel inside `vmlinuz` to `vmlinux`.

    Raises:
        ImageError: It cannot be unpacked, or the disk is full.
    """
    with vmlinux.open("wb") as output:
        done = subprocess.run(
            ["lz4", "-dc", "-"],
            input=payload_of(vmlinuz.read_bytes()),
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
    if done.returncode != 0 or not vmlinux.read_bytes()[:4] == b"\x7fELF":
        raise ImageError(f"the kernel cannot be unpacked: {done.stderr.decode().strip()[-300:]}")


def module_files(folder: Path) -> Mapping[str, Path]:
    """Every module below `lib/modules/…`, by the name the kernel calls it."""
    return {path.stem.replace("-", "_"): path for path in sorted(folder.rglob("*.ko"))}


def load_order(files: Mapping[str, Path], wanted: Sequence[str] = MODULES) -> list[str]:
    """Module names in the order to load them, each after what it depends on.

    Raises:
        ImageError: A module is missing.
    """
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name not in files:
            raise ImageError(f"the kernel package has no module {name}")
        for dependency in _dependencies(files[name]):
            visit(dependency)
        order.append(name)

    for name in wanted:
        visit(name)
    return order


def _dependencies(module: Path) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    names = found[1].decode().split(",") if found else []
    return [name.replace("-", "_") for name in names if name]
