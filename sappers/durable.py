"""Files that must survive a crash: written beside, synced, renamed, folder synced."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of an OSError: no room, by disk, quota or limit
# Of an OSError: the machine lacks descriptors or memory, which says nothing of the file.
LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def write_durably(
    path: Path, content: bytes, *, mode: int = 0o600, group_id: int | None = None
) -> None:
    """Replace a file as a whole: after a crash it has the old content or the new, nothing else.

    Args:
        path: The file.
        content: All of it.
        mode: Whatever the umask is.
        group_id: Whose group it is to be, or None for the process's own.

    Raises:
        OSError: The disk is full or the folder is missing; the old file still stands.
    """
    with written_durably(path, mode=mode, group_id=group_id) as file:
        file.write(content)


@contextmanager
def written_durably(
    path: Path, *, mode: int = 0o600, group_id: int | None = None
) -> Iterator[BinaryIO]:
    """The same, piece by piece: what the block writes takes the file's place once it ends well.

    Raises:
        OSError: As `write_durably`.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if group_id is not None:
                os.fchown(file.fileno(), -1, group_id)
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def keep_durably(made: Path, place: Path) -> None:
    """Move a file, or a folder with all that is in it, to where it is looked for.

    After a crash it is there as it was made, or it is not there: a name may be on the disk long
    before what it names.

    Raises:
        OSError: The folder of `place` is missing or not writable.
    """
    os.sync()
    made.rename(place)
    sync_folder(place.parent)


def remove_durably(path: Path) -> None:
    """Remove a file, if it is there, so that it does not come back by a crash.

    Raises:
        OSError: The folder is not writable.
    """
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
