"""What several integration tests run on: an SSH server, a host for guests, a small disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sappers.images.store import FolderImageStore
from sappers.model.image import CHUNK_BYTES
from tests.image_stores import make_store
from tests.integration.guests import GuestHost, build_image
from tests.integration.ssh_server import SshServer, ssh_server


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    """A host that is reached over SSH: this machine, with files of its own in places."""
    with ssh_server() as running:
        yield running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> FolderImageStore:
    """A store that has what was built for any of a file's tests."""
    return make_store(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def hello_image(images: FolderImageStore) -> str:
    return build_image(images, "hello")


@pytest.fixture
async def host(tmp_path: Path, images: FolderImageStore) -> AsyncIterator[GuestHost]:
    it = GuestHost(tmp_path, images)
    await it.start()
    yield it
    await it.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 4 chunks."""
    folder = tmp_path / "small"
    folder.mkdir()
    size = 4 * CHUNK_BYTES + (256 << 10)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
