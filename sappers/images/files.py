"""Files of the image store: written beside and renamed, read without following links, and
remembered once they were verified.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

from sappers.durable import FULL, sync_folder
from sappers.errors import ImageError

UNFINISHED = ".new-"
_PAST_NS = 1_000_000_000


class VerifiedFiles:
    """Files that this process has hashed and that have not changed since, by their stat.

    Change times do not count: a guest's hard link to a blob alters them, and its content is the
    same. Whoever can set a modification time back owns the file, and is this process's user.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, ...]] = {}
        self._under_way: dict[Path, Future[bool]] = {}
        self._lock = threading.Lock()

    def check(self, path: Path, digest: str) -> bool:
        """Whether a file is there and has this digest, by reading it; one that has not is removed.

        Who asks while it is being read gets the same answer, so that no crowd reads one file.

        Raises:
            OSError: It is damaged and cannot be removed.
        """
        with self._lock:
            mine = path not in self._under_way
            answer = self._under_way.setdefault(path, Future())
        if not mine:
            return answer.result()
        try:
            answer.set_result(self._check(path, digest))
        except BaseException as error:
            answer.set_exception(error)
        finally:
            with self._lock:
                del self._under_way[path]
        return answer.result()

    def _check(self, path: Path, digest: str) -> bool:
        try:
            found, seen = hashed(path)
        except OSError:
            return False  # if a link or a folder stands there, whoever writes says so
        if found == digest:
            self.add(path, seen)
            return True
        self.forget(path)
        path.unlink(missing_ok=True)
        return False

    def knows(self, path: Path) -> bool:
        """Whether the file was verified and is the same."""
        with self._lock:
            known = self._known.get(path)
        return known is not None and known == look(path)

    def add(self, path: Path, seen: tuple[int, ...] | None) -> None:
        """Remember a file whose content was verified after `seen` was looked at."""
        with self._lock:
            if seen is not None:
                self._known[path] = seen

    def forget(self, path: Path) -> None:
        """It is gone or damaged."""
        with self._lock:
            self._known.pop(path, None)


def look(path: Path) -> tuple[int, ...] | None:
    """What tells a regular file from another one, its length third; None when there is none."""
    try:
        return identity(path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def identity(found: os.stat_result) -> tuple[int, ...] | None:
    """As `look`, of an open file's stat."""
    if not stat.S_ISREG(found.st_mode):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def hashed(path: Path) -> tuple[str, tuple[int, ...] | None]:
    """A file's SHA-256, and what it looked like before it was read.

    Raises:
        OSError: It cannot be read; a link is not followed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        seen = identity(os.fstat(descriptor))
        return hashlib.file_digest(file, "sha256").hexdigest(), seen


def read_limited(path: Path, limit: int) -> tuple[bytes, tuple[int, ...]] | None:
    """A regular file's content and its `look`; None when there is none or it is too long."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return None
        raise
    with os.fdopen(descriptor, "rb") as file:
        seen = identity(os.fstat(descriptor))
        if seen is None or seen[2] > limit:
            return None
        return file.read(limit + 1), seen


@contextlib.contextmanager
def writing(target: Path, root: Path, *, durable: bool) -> Iterator[BinaryIO]:
    """A file that takes the place of `target` when the block ends well, and else is gone.

    Args:
        target: Where it goes, below `root`; folders are made.
        root: The store's folder, for errors.
        durable: Whether it must survive a crash once it stands there.

    Raises:
        ImageError: The disk is full or cannot be written.
    """
    with refusing(root):
        make_folder(target.parent, root)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=UNFINISHED)
        beside = Path(name)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                yield file
                os.fchmod(descriptor, 0o444)  # guests read blobs by another name, as other users
                # A clock tick is long: of a file that is written twice in one, the second is seen.
                past = time.time_ns() - _PAST_NS
                os.utime(descriptor, ns=(past, past))
                if durable:
                    os.fsync(descriptor)
            beside.rename(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(target.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file of a person's that takes the place of `path` when the block ends well.

    The folder may be anybody's: nobody can foresee its name until then, and put a link there. Until
    the end it has none, where the file system can do that: whoever is killed leaves nothing.

    Raises:
        ImageError: The disk is full or cannot be written.
    """
    with refusing(path.parent):
        beside = path.parent / f".{path.name[:64]}-{secrets.token_hex(8)}"
        descriptor = _nameless(path.parent)
        is_nameless = descriptor is not None
        if descriptor is None:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                os.fchmod(descriptor, 0o644)
                file.flush()
                os.fsync(descriptor)
                if is_nameless:
                    # Links are followed only where a descriptor is given; this path needs none.
                    os.link(f"/proc/self/fd/{descriptor}", beside, src_dir_fd=descriptor)
            beside.rename(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _nameless(folder: Path) -> int | None:
    """A new file in a folder's file system, not in the folder; None where there can be none."""
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            return None
        raise


def check_place(path: Path) -> None:
    """Nothing, where a person may have a file written.

    Raises:
        ImageError: There is no such folder, or something else is there.
    """
    if path.exists() and not path.is_file():
        raise ImageError(f"{path} is no plain file", hint="name a file to write to")
    if not path.parent.is_dir():
        raise ImageError(f"{path.parent} is no folder", hint="make it, or name another place")


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """All of it: a plain write may write less, just before the disk is full."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def entries(folder: Path, root: Path) -> list[Path]:
    """What is in a folder below `root`, by name; nothing where a link stands in its way.

    Whoever removes files must not be led to those of others.
    """
    below = folder.relative_to(root).parts
    places = [root.joinpath(*below[:depth]) for depth in range(1, len(below) + 1)]
    if any(place.is_symlink() or not place.is_dir() for place in places):
        return []
    return sorted(folder.iterdir())


@contextlib.contextmanager
def refusing(root: Path) -> Iterator[None]:
    """Errors of the disk as `ImageError`, whose cause they are: callers tell them from damage."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise  # it is the sender's, not the disk's
        if error.errno in FULL:
            raise ImageError(
                f"no room for an image in {root}", hint="free some space and repeat"
            ) from error
        what = f"{error.strerror or error}"
        raise ImageError(f"cannot use {error.filename or root}: {what}") from error


def make_folder(folder: Path, root: Path) -> None:
    """Make a folder at or below `root`; none of its parts from `root` on may be a link.

    Raises:
        ImageError: One is, or others may write to it.
    """
    below = folder.relative_to(root).parts
    for depth in range(len(below) + 1):
        part = root.joinpath(*below[:depth])
        try:
            found = part.lstat()
        except FileNotFoundError:
            part.mkdir(mode=0o700, parents=depth == 0, exist_ok=True)
            found = part.lstat()
        if not stat.S_ISDIR(found.st_mode) and depth:
            raise ImageError(
                f"{part} is no folder", hint="remove it; images are fetched again"
            ) from NotADirectoryError(part)
        if depth == 0:
            found = part.stat()  # the store itself may be reached by a link
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise ImageError(
                f"other users may change {part}",
                hint=f"it must belong to the user of this process: chmod 700 {part}",
            ) from PermissionError(part)
