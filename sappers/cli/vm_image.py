"""The file behind `--vm-image`: an exported image, or the raw disk of a Nanos image.

Who names a file and has the cluster's keys vouches for it, whoever built it: it is signed anew with
the cluster's own image key.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sappers.assembly.by_hand import ClusterKeys
from sappers.cli.agent_requests import Launch
from sappers.errors import ImageError
from sappers.images.archive_file import import_image, look_into
from sappers.images.store import FolderImageStore
from sappers.model.image import Manifest, NanosBoot

NANOS_MEMORY_MIB = 256

_ARCHIVE_START = b"image.json\0"
_BOOT_SIGNATURE = b"\x55\xaa"
_SECTOR_BYTES = 512


@contextmanager
def opened_image(
    file: Path, launch: Launch, keys: ClusterKeys
) -> Iterator[tuple[FolderImageStore, str]]:
    """For the block: a store with the image of a file, signed by the cluster, and its digest.

    Raises:
        ImageError: It is no image, is damaged, or of another kind than is to be launched.
    """
    kind = _kind_of(file)
    trusted = {keys.signing_key.public, *(look_into(file).keys if kind == "archive" else ())}
    with tempfile.TemporaryDirectory(dir=keys.folder, prefix=".vm-image-") as place:
        store = FolderImageStore(Path(place), lambda: trusted)
        if kind == "archive":
            require_kind(look_into(file).manifest, launch)
            manifest = store.manifest(import_image(store, file))
            assert manifest is not None
        else:
            manifest = _nanos(store, file, launch)
        yield store, store.put_manifest(manifest, keys.signing_key)


def require_kind(manifest: Manifest, launch: Launch) -> None:
    """Nothing, for an image of the kind that is to be launched.

    Raises:
        ImageError: It is of another; says which flag is for it.
    """
    if manifest.kind == launch.kind:
        return
    other = {"nanos": "--launch-nanovm", "microvm": "--launch-microvm"}.get(manifest.kind)
    raise ImageError(
        f"image {manifest.name} is of kind {manifest.kind}, which {launch.flag} does not launch",
        hint=f"{other} {launch.name}" if other else "a whole host is no guest",
    )


def _nanos(store: FolderImageStore, disk: Path, launch: Launch) -> Manifest:
    if launch.kind != "nanos":
        raise ImageError(
            f"{disk} is a raw disk, which only --launch-nanovm launches",
            hint="a micro-VM's image is a file of sappers-deploy image export",
        )
    return Manifest(
        name=launch.name,
        architecture="x86_64",
        boot=NanosBoot(store.put_file(disk)),
        memory_mib=NANOS_MEMORY_MIB,
        guest_port=launch.port,
    )


def _kind_of(file: Path) -> Literal["archive", "disk"]:
    try:
        with file.open("rb") as content:
            start = content.read(_SECTOR_BYTES)
    except OSError as error:
        raise ImageError(f"{file}: {error.strerror}") from error
    if start.startswith(_ARCHIVE_START):
        return "archive"
    if len(start) == _SECTOR_BYTES and start.endswith(_BOOT_SIGNATURE):
        return "disk"
    raise ImageError(
        f"{file} is no image",
        hint="it is what `sappers-deploy image export NAME FILE` writes, or the raw disk of a "
        "Nanos image with the sidecar in it (`image export --disk`)",
    )
