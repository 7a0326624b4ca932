"""Files that must survive a crash: written beside, synced, renamed, folder synced."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file as a whole: after a crash it has the old content or the new, nothing else.

    Raises:
        OSError: The disk is full or the folder is missing; the old file still stands.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def rename_durably(path: Path, new: Path) -> None:
    """Rename a file within its folder; after a crash it has one of the two names.

    Raises:
        OSError: There is no such file.
    """
    path.rename(new)
    sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
