"""Finding the kernel in its wrapping, and the order of its modules."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images.kernel import load_order, module_files, payload_of
from sappers.images.python_root import locked_requirements


def bz_image(payload: bytes) -> bytes:
    head = bytearray(5 * 512)
    head[0x1F1] = 4
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 16, len(payload))
    return bytes(head) + b"\0" * 16 + payload + b"after"


def test_the_payload_is_found_by_the_header() -> None:
    packed = b"\x02\x21\x4c\x18 packed"
    assert payload_of(bz_image(packed + b"SIZE")) == packed


@pytest.mark.parametrize("image", [b"\0" * 4096, bz_image(b"\x1f\x8b gzip....")])
def test_another_kernel_is_refused(image: bytes) -> None:
    with pytest.raises(ImageError):
        payload_of(image)


def module(folder: Path, name: str, *depends: str) -> None:
    (folder / f"{name}.ko").write_bytes(b"\0depends=" + ",".join(depends).encode() + b"\0")


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    module(tmp_path, "virtio_net", "net_failover", "virtio")
    module(tmp_path, "net-failover", "failover")
    module(tmp_path, "failover")
    module(tmp_path, "virtio")
    order = load_order(module_files(tmp_path), ["virtio_net", "virtio"])
    assert order == ["failover", "net_failover", "virtio", "virtio_net"]


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    module(tmp_path, "virtio_net", "virtio")
    with pytest.raises(ImageError, match="no module virtio"):
        load_order(module_files(tmp_path), ["virtio_net"])


LOCK = """\
alpha==1.0 \\
    --hash=sha256:aa
    # via sappers
nats-py==2.0 ; x == 'y' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
omega==3.0
"""


def test_only_what_the_guest_needs_is_taken_from_the_lock() -> None:
    taken = locked_requirements(LOCK, ["nats-py"])
    assert "nats-py==2.0" in taken and "sha256:cc" in taken
    assert "alpha" not in taken and "omega" not in taken
    with pytest.raises(ImageError, match="does not pin beta"):
        locked_requirements(LOCK, ["beta"])
