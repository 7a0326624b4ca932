"""An image's manifest: the files a guest boots from, by content."""

from __future__ import annotations

from typing import Literal

import msgspec


class Blob(msgspec.Struct, frozen=True):
    """One file of an image.

    Attributes:
        digest: SHA-256 of the content, 64 hex digits.
        size_bytes: Length of the content.
    """

    digest: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True):
    """What an image is made of; its digest is the SHA-256 of its canonical JSON.

    Attributes:
        kind: Which launcher runs it.
        kernel: Uncompressed Linux kernel with a PVH entry.
        initrd: Root file system as an initramfs.
        memory_mib: What a guest needs when nobody says otherwise.
        guest_port: Port the application listens on, or None.
        health_interval_seconds: How often the sidecar pushes health.
    """

    name: str
    kind: Literal["microvm"]
    architecture: str
    kernel: Blob
    initrd: Blob
    memory_mib: int = 128
    guest_port: int | None = None
    health_interval_seconds: float = 1.0

    def blobs(self) -> tuple[Blob, ...]:
        """Every file the image needs."""
        return (self.kernel, self.initrd)
