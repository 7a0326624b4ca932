"""What of an image goes into a guest's folder, verified just before the guest starts.

Invariant: no guest boots from a file that was not hashed for it. A clone does not boot: its kernel
is in its template's memory, whose digest is known. Of its disk, if it has one, the stat is compared
with that of the file that was hashed for the template.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from sappers.errors import ImageError, LaunchError
from sappers.launchers import command
from sappers.model.image import DIGEST_SHOWN
from sappers.ports import ImageStore

log = structlog.get_logger(__name__)


def verified_files(images: ImageStore, image: str, *, clone: bool = False) -> Mapping[str, Path]:
    """Where the files are that a guest needs, by the name that QEMU is told.

    Reads all of them, but for a clone: call it from threads, and hold the store (`holding`) until
    they are linked. A file that has changed is put together again from its chunks.

    Raises:
        ImageError: The image is not whole, or nobody trusted signed it.
        LaunchError: A file had changed, and chunks of it are missing, too; or no guest can be it.
    """
    changed = [] if clone else [str(images.blob_path(one)) for one in images.recheck(image)]
    for path in changed:
        log.warning("damaged file of an image removed", image=image[:DIGEST_SHOWN], file=path)
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
