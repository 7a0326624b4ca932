"""Image stores and small images for tests; one key for all of a test run."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sappers.images.store import FolderImageStore
from sappers.model.image import Manifest, MicrovmBoot
from sappers.security.signing import SigningKey

# The same in each process: what is signed is part of what a simulated seed replays.
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
STRANGER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"s" * 32))


def make_store(
    folder: Path, trusted: Callable[[], Collection[str]] = lambda: (KEY.public,)
) -> FolderImageStore:
    return FolderImageStore(folder, trusted)


def put_image(
    store: FolderImageStore,
    name: str = "web",
    *,
    kernel: bytes = b"kernel",
    initrd: bytes = b"initrd",
    key: SigningKey = KEY,
) -> str:
    """A microvm image of the given bytes; its digest."""
    boot = MicrovmBoot(store.put([kernel]), store.put([initrd]))
    return store.put_manifest(Manifest(name, "x86_64", boot), key)


def copy_image(source: FolderImageStore, target: FolderImageStore, digest: str) -> None:
    """Manifest first, then every chunk that the target lacks."""
    signed = source.signed(digest)
    assert signed is not None
    target.put_signed(signed)
    for chunk in target.missing_chunks(digest):
        frame = source.read_chunk(chunk)
        assert frame is not None
        target.write_chunk(chunk, frame)


def damage(path: Path, content: bytes | None = None, *, at: int = 0) -> None:
    """Flip a bit of a file of a store, or give it other content."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    if content is None:
        with path.open("r+b") as file:
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1]))
    else:
        path.write_bytes(content)
    path.chmod(mode & 0o777)


def damage_unseen(path: Path) -> None:
    """Flip a bit in place as a disk that rots does: neither length nor times show it."""
    before = path.stat()
    damage(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def files(folder: Path) -> set[str]:
    """Names of all files below a folder, but not of the lock."""
    return {name for _, _, names in os.walk(folder) for name in names if name != "lock"}
