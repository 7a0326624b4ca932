"""Images of random bytes: they travel as any other, and nothing boots from them."""

from __future__ import annotations

import os

from sappers.assembly.images import LocalImages
from sappers.model.image import CHUNK_BYTES, Manifest, MicrovmBoot


def make_image(images: LocalImages, name: str, pieces: list[bytes]) -> str:
    """An image of these chunks, two or more; its digest."""
    images.own_key(create=True)
    key = images._signing_key
    assert key is not None
    boot = MicrovmBoot(images.store.put(pieces[:1]), images.store.put(pieces[1:]))
    return images.store.put_manifest(Manifest(name, "x86_64", boot), key)


def noise(chunks: int) -> list[bytes]:
    return [os.urandom(CHUNK_BYTES) for _ in range(chunks)]
