"""Writes what hosts send to the control machine: below a folder, and nowhere else.

A host chooses what is written, and may choose the name. So names have no `..`, and links below the
folder are not followed. A file is written beside its place and renamed over it when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from sappers.provisioner.modules.step import Failed

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_BYTES = 1024 * 1024


@contextlib.contextmanager
def _parent(folder: Path, names: tuple[str, ...], *, make: bool) -> Iterator[int]:
    """The descriptor of the folder that a file is in.

    Raises:
        Failed: A name leads elsewhere, or a link is on the way.
        FileNotFoundError: It is not there, and is not to be made.
    """
    if not names or any(name in ("", ".", "..") or "/" in name or "\0" in name for name in names):
        raise Failed(f"{'/'.join(names)!r} leads out of the folder {folder}")
    if make:
        folder.mkdir(parents=True, exist_ok=True)
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
            try:
                below = os.open(name, _FOLDER_FLAGS, dir_fd=at)
            except FileNotFoundError:
                raise
            except OSError:
                raise Failed(f"{name} in {folder} is a link, or no folder: remove it") from None
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def digest_of(folder: Path, names: tuple[str, ...]) -> str | None:
    """SHA-1 of a file below a folder, None where there is none.

    Raises:
        Failed: It would be elsewhere, or a link is on the way.
    """
    try:
        with _parent(folder, names, make=False) as at:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return _sha1(os.open(names[-1], flags, dir_fd=at))
    except FileNotFoundError:
        return None
    except OSError:  # a link or a folder is in its place; `keep` replaces the one, not the other
        return None


def _sha1(descriptor: int) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    with os.fdopen(descriptor, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def keep(
    folder: Path,
    names: tuple[str, ...],
    content: bytes,
    *,
    first: bool,
    last: bool,
    sha1: str | None,
    host: str,
) -> None:
    """Write a part of a file; with the last one put it in place.

    Args:
        host: Who sends it: several may send what goes to one place, and the last whole one stays.

    Raises:
        Failed: It would be elsewhere, a link is on the way, or all of it is not what it should be.
        OSError: It cannot be written.
    """
    with _parent(folder, names, make=True) as at:
        beside = _name_beside(names[-1], host)
        if first:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=at)
        new = os.O_CREAT | os.O_EXCL if first else 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | new
        try:
            with os.fdopen(os.open(beside, flags, 0o666, dir_fd=at), "ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=at)  # the disk is full: a part of it helps nobody
            path = str(folder.joinpath(*names))
            raise OSError(error.errno or 0, error.strerror or str(error), path) from error
        if not last:
            return
        whole = _sha1(os.open(beside, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at))
        if sha1 is not None and whole != sha1:
            os.unlink(beside, dir_fd=at)
            raise Failed("checksum mismatch: the file changed while it was fetched")
        os.rename(beside, names[-1], src_dir_fd=at, dst_dir_fd=at)
        os.fsync(at)


def _name_beside(name: str, host: str) -> str:
    """One for each host, so that what a killed run left is overwritten by the next."""
    mark = hashlib.sha256(host.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f".{name[:200]}.sappers-new-{mark}"
