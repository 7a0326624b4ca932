"""What of an image goes into a guest's folder, verified just before the guest starts.

Invariant: no guest runs from a file that was not hashed for it. The kernel of a clone is in its
template's memory, whose digest is known; its disk, if it has one, is hashed while its QEMU starts
(`changed_disks`), for which it would otherwise wait.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import structlog

from sappers.errors import ImageError, LaunchError
from sappers.launchers import command
from sappers.model.image import DIGEST_SHOWN
from sappers.ports import ImageStore

log = structlog.get_logger(__name__)


def verified_files(images: ImageStore, image: str, *, clone: bool = False) -> Mapping[str, Path]:
    """Where the files are that a guest needs, by the name that QEMU is told.

    Reads all of them, but for a clone (see `changed_disks`): call it from threads, and hold the
    store (`holding`) until they are linked. What has changed is put together again from its chunks.

    Raises:
        ImageError: The image is not whole, or nobody trusted signed it.
        LaunchError: A file had changed, and chunks of it are missing, too; or no guest can be it.
    """
    changed = [] if clone else _changed(images, image)
    try:
        boot = images.assemble(image).boot
    except ImageError as error:
        if not changed:
            raise
        raise LaunchError(
            f"{', '.join(changed)} was damaged and is removed, and {error.message}: "
            "they are fetched from other members, or push the image again"
        ) from error
    files = command.boot_files(boot, clone=clone)
    return {name: images.blob_path(blob.digest) for name, blob in files.items()}


def changed_disks(images: ImageStore, image: str) -> tuple[str, ...]:
    """Which of the files that a clone reads had changed, and are removed; for threads.

    Raises:
        ImageError: The image is not here, or nobody trusted signed it.
    """
    manifest = images.manifest(image)
    if manifest is None:
        raise ImageError(f"image {image[:DIGEST_SHOWN]} is gone, or nobody trusted signed it now")
    disks = command.boot_files(manifest.boot, clone=True)
    return tuple(_changed(images, image, {one.digest for one in disks.values()})) if disks else ()


def _changed(images: ImageStore, image: str, wanted: Collection[str] | None = None) -> list[str]:
    changed = [str(images.blob_path(one)) for one in images.recheck(image, wanted)]
    for path in changed:
        log.warning("damaged file of an image removed", image=image[:DIGEST_SHOWN], file=path)
    return changed
