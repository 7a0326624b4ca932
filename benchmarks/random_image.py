"""An image of random bytes: nothing of it compresses, and no member has any of it yet."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig import Rig
from sappers.errors import ApiError
from sappers.images.store import FolderImageStore
from sappers.model.image import Manifest, NanosBoot
from sappers.security.signing import load_or_create_signing_key

NAME = "random"


@dataclass(frozen=True)
class RandomImage:
    """One image of the control machine, and a file of the same content for scp."""

    digest: str
    size_bytes: int
    file: Path


@contextmanager
def random_image(rig: Rig, size_bytes: int) -> Iterator[RandomImage]:
    """A new one; afterwards it is gone here and, as fast as they can, on the members."""
    file = rig.home.data / "random.bin"
    rig.home.data.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as content:
        for start in range(0, size_bytes, 1 << 20):
            content.write(os.urandom(min(1 << 20, size_bytes - start)))
    key = load_or_create_signing_key(rig.home.image_signing_key)
    store = FolderImageStore(rig.home.images, lambda: (key.public,))
    boot = NanosBoot(store.put_file(file))
    digest = store.put_manifest(Manifest(NAME, platform.machine(), boot), key)
    os.sync()  # what the disk still has to write would be counted against whoever comes first
    try:
        yield RandomImage(digest, size_bytes, file)
    finally:
        _remove(rig, digest)
        store.remove_name(NAME)
        store.prune(())
        file.unlink()


def _remove(rig: Rig, digest: str) -> None:
    with rig.client() as client:
        try:
            client.call("DELETE", f"/v1/images/{digest}")
        except ApiError as error:
            if error.status != 404:
                raise
