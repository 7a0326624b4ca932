"""Files, folders, links and locks of a host; each operation says whether it changed anything.

A file is written beside its place, synced and renamed over it: at every moment the old or the new
content is there, whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from typing import Any

CHUNK_BYTES = 1024 * 1024


class Refused(Exception):
    """The operation is not done, for a reason that is no system error."""


class Held(Exception):
    """A lock is taken; the text says by whom."""


def digest_of(path: str) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            if not chunk:
                return digest.hexdigest()
            digest.update(chunk)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def stat_path(path: str, with_digest: bool) -> dict[str, Any] | None:
    """What is at a path, or None."""
    found = _lstat(path)
    if found is None:
        return None
    kind = "other"
    for test, name in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "link")):
        if test(found.st_mode):
            kind = name
    return {
        "kind": kind,
        "mode": stat.S_IMODE(found.st_mode),
        "owner": _name(pwd.getpwuid, found.st_uid),
        "group": _name(grp.getgrgid, found.st_gid),
        "size": found.st_size,
        "sha256": digest_of(path) if with_digest and kind == "file" else None,
        "target": os.readlink(path) if kind == "link" else None,
    }


def _name(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def ids_of(owner: str, group: str) -> tuple[int, int]:
    """Numbers of a user and a group, given by name or number.

    Raises:
        Refused: There is no such user or group.
    """
    try:
        uid = int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
        gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise Refused(f"no user {owner} or no group {group}") from None
    return uid, gid


def read_file(path: str, max_bytes: int) -> bytes | None:
    """A regular file's content, or None when there is none."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        raise Refused("it is no regular file")
    with open(path, "rb") as file:
        content = file.read(max_bytes + 1)  # files of /proc say that they are empty
    if len(content) > max_bytes:
        raise Refused(f"it is larger than {max_bytes} bytes")
    return content


class FileWrite:
    """A file as it shall be."""

    def __init__(
        self, path: str, mode: int, owner: str, group: str, size: int, sha256: str
    ) -> None:
        self._path = path
        self._mode = mode
        self._ids = ids_of(owner, group)
        self._size = size
        self._sha256 = sha256

    def content_differs(self) -> bool:
        """Whether the content has to be sent."""
        found = _lstat(self._path)
        if found is None:
            return True
        if stat.S_ISDIR(found.st_mode):
            raise Refused("a folder is in its place")
        if not stat.S_ISREG(found.st_mode) or found.st_size != self._size:
            return True
        return digest_of(self._path) != self._sha256

    def adjust(self, check: bool) -> bool:
        """Give the file that is there its mode and owner."""
        return _adjust(self._path, self._mode, self._ids, check)

    def write(self, chunks: Iterator[bytes]) -> None:
        """Put new content in place.

        Raises:
            Refused: What came is not what was announced.
        """
        folder, name = os.path.split(self._path)
        self._require_room(folder)
        # One fixed name, so that what a killed run left is overwritten by the next.
        beside = os.path.join(folder, "." + name[:200] + ".sappers-new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(beside, flags, 0o600)
        try:
            try:
                self._fill(descriptor, chunks)
            finally:
                os.close(descriptor)
            os.rename(beside, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        sync_folder(folder)

    def _require_room(self, folder: str) -> None:
        room = os.statvfs(folder or "/")
        free = room.f_frsize * (room.f_bfree if os.geteuid() == 0 else room.f_bavail)
        if free < self._size:
            raise OSError(errno.ENOSPC, f"{self._size} bytes needed, {free} free")

    def _fill(self, descriptor: int, chunks: Iterator[bytes]) -> None:
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
            left = memoryview(chunk)
            while left:
                left = left[os.write(descriptor, left) :]
        if digest.hexdigest() != self._sha256:
            raise Refused("the content changed while it was sent")
        os.fchown(descriptor, *self._ids)
        os.fchmod(descriptor, self._mode)
        os.fsync(descriptor)


def _adjust(path: str, mode: int, ids: tuple[int, int], check: bool) -> bool:
    found = os.stat(path)
    owned = (found.st_uid, found.st_gid) == ids
    if owned and stat.S_IMODE(found.st_mode) == mode:
        return False
    if not check:
        if not owned:
            os.chown(path, *ids)
        os.chmod(path, mode)
    return True


def sync_folder(folder: str) -> None:
    """Make a rename in the folder last."""
    descriptor = os.open(folder or "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_folder(path: str, mode: int, owner: str, group: str, check: bool) -> bool:
    """Make a folder exist with this mode and owner."""
    ids = ids_of(owner, group)
    if os.path.isdir(path):
        return _adjust(path, mode, ids, check)
    if _lstat(path) is not None:
        raise Refused("something that is no folder is in its place")
    if not check:
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            os.makedirs(parent, 0o755)
        os.mkdir(path, 0o700)
        _adjust(path, mode, ids, check)
        sync_folder(parent)
    return True


def ensure_link(path: str, target: str, check: bool) -> bool:
    """Make a symbolic link."""
    found = _lstat(path)
    if found is not None and stat.S_ISLNK(found.st_mode) and os.readlink(path) == target:
        return False
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise Refused("a folder is in its place")
    if not check:
        beside = path + ".sappers-new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        os.symlink(target, beside)
        os.rename(beside, path)
        sync_folder(os.path.dirname(path))
    return True


def remove(path: str, check: bool) -> bool:
    """Make nothing be at a path; what is mounted below it is never emptied."""
    found = _lstat(path)
    if found is None:
        return False
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if len([part for part in real.split("/") if part not in ("", ".", "..")]) < 2:
        raise Refused("a top-level folder is not removed")
    if stat.S_ISDIR(found.st_mode):
        mounted = _mounts_below(real)
        if mounted:
            raise Refused(f"{mounted} is mounted there")
    if not check:
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    return True


def _mounts_below(path: str) -> str:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        points = [line.split()[4].replace("\\040", " ") for line in file]
    return next((point for point in points if (point + "/").startswith(path + "/")), "")


class Locks:
    """Locks that are held until this process ends."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def acquire(self, path: str, holder: str) -> None:
        """Take a lock and write into its file who holds it.

        Raises:
            Held: Another process has it.
        """
        if path in self._descriptors:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        # Who may open it may lock it, so that is nobody else.
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            text = os.read(descriptor, 4096).decode("utf-8", "replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise Held(text) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, holder.encode() + b"\n")
        self._descriptors[path] = descriptor
