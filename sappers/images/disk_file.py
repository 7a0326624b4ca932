"""A raw disk out of an image, as a file of its own: for a hypervisor, or a real machine."""

from __future__ import annotations

import os
from pathlib import Path

from sappers.errors import ImageError
from sappers.images.files import check_place, replacing
from sappers.images.store import FolderImageStore
from sappers.model.image import ApplianceBoot, NanosBoot

_PIECE_BYTES = 1 << 16


def export_disk(store: FolderImageStore, digest: str, path: Path) -> int:
    """Write an image's disk to a file, which takes no room for zeros; its length in bytes.

    Raises:
        ImageError: The image has no disk, is not whole, or the file cannot be written.
    """
    manifest = store.manifest(digest)
    if manifest is not None and not isinstance(manifest.boot, ApplianceBoot | NanosBoot):
        raise ImageError(
            f"image {manifest.name} is a {manifest.kind}: it has no disk",
            hint="export it without --disk",
        )
    check_place(path)
    with store.holding():
        boot = store.assemble(digest).boot
        assert isinstance(boot, ApplianceBoot | NanosBoot)
        _copy(store.blob_path(boot.disk.digest), path)
    return boot.disk.size_bytes


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as file, source.open("rb") as content:
        while piece := content.read(_PIECE_BYTES):
            if piece.strip(b"\0"):
                file.write(piece)
            else:
                file.seek(len(piece), os.SEEK_CUR)
        file.truncate()
