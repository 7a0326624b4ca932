"""Files, folders, links and locks of a host; each operation says whether it changed anything.

A file is written beside its place, synced and renamed over it: at every moment the old or the new
content is there, whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from typing import Any

from sappers.provisioner.remote import beside, digests

CHUNK_BYTES = 1024 * 1024


class Refused(Exception):
    """The operation is not done, for a reason that is no system error."""


class Held(Exception):
    """A lock is taken; the text says by whom."""


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """What the system refuses within the block is said of this path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or 0, error.strerror or str(error), path) from error


def digest_of(path: str) -> str:
    """SHA-256 of a file, hex."""
    return digests.of_file(path, "sha256")["sha256"]


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


@contextlib.contextmanager
def opened_folder(path: str, no_links: bool = False) -> Iterator[int]:
    """A folder's descriptor: what is done by it is done there, whatever becomes of the path.

    Raises:
        OSError: It is no folder; with `no_links` also where it is a link to one.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(path or "/", flags | (os.O_NOFOLLOW if no_links else 0))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_file(path: str, max_bytes: int, no_links: bool = False) -> bytes | None:
    """A regular file's content, or None when there is none.

    Args:
        no_links: Neither the file nor its folder may be a link.
    """
    folder, name = os.path.split(path)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_NOFOLLOW if no_links else 0)
    try:
        with opened_folder(folder, no_links) if no_links else contextlib.nullcontext() as at:
            place = name if no_links else path
            found = os.stat(place, dir_fd=at, follow_symlinks=not no_links)
            if not stat.S_ISREG(found.st_mode):
                raise Refused("it is no regular file")
            descriptor = os.open(place, flags, dir_fd=at)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(max_bytes + 1)  # files of /proc say that they are empty
    if len(content) > max_bytes:
        raise Refused(f"it is larger than {max_bytes} bytes")
    return content


def read_quickly(path: str) -> bytes:
    """A file's content, of those that the system itself makes: hundreds of small ones."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        parts = [os.read(descriptor, CHUNK_BYTES)]
        while parts[-1]:
            parts.append(os.read(descriptor, CHUNK_BYTES))
        return b"".join(parts)
    finally:
        os.close(descriptor)


def read_part(path: str, offset: int, length: int) -> bytes:
    """So many bytes of a regular file, fewer at its end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused("it is no regular file")
        file.seek(offset)
        return file.read(length)


def copy_file(source: str, path: str) -> None:
    """Copy a file with its mode, owner and times; what is at the other path is replaced."""
    import shutil

    folder, name = os.path.split(path)
    with open(source, "rb") as file, naming(path), opened_folder(folder) as at:
        found = os.fstat(file.fileno())
        with beside.put_in_place(name, at) as descriptor:
            with os.fdopen(os.dup(descriptor), "wb") as copy:
                shutil.copyfileobj(file, copy, CHUNK_BYTES)
            os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
            os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.fsync(descriptor)
        os.fsync(at)


class FileWrite:
    """A file as it shall be; with `no_links` its folder may not be a link."""

    def __init__(
        self, path: str, mode: int, owner: str, group: str, size: int, sha256: str,
        no_links: bool = False,
    ) -> None:  # fmt: skip
        self._no_links = no_links
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
        return _adjust(self._path, stat.S_IFREG, self._mode, self._ids, check)

    def write(self, chunks: Iterator[bytes]) -> None:
        """Put new content in place.

        Raises:
            Refused: What came is not what was announced.
        """
        folder, name = os.path.split(self._path)
        with naming(self._path), opened_folder(folder, self._no_links) as at:
            self._write_in(at, name, chunks)
            os.fsync(at)

    def _write_in(self, folder: int, name: str, chunks: Iterator[bytes]) -> None:
        self._require_room(folder)
        with beside.put_in_place(name, folder) as descriptor:
            self._fill(descriptor, chunks)

    def _require_room(self, folder: int) -> None:
        room = os.statvfs(folder)
        free = room.f_frsize * (room.f_bfree if os.geteuid() == 0 else room.f_bavail)
        if free < self._size:
            full = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, f"{full} ({self._size} bytes needed, {free} free)")

    def _fill(self, descriptor: int, chunks: Iterator[bytes]) -> None:
        digest = digests.new("sha256", self._size)
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


def _adjust(path: str, kind: int, mode: int, ids: tuple[int, int], check: bool) -> bool:
    """Give what is there, of that kind (`stat.S_IFREG`), its mode and owner."""
    # A descriptor that stands for the place only: nobody can put a link there in between.
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_IFMT(found.st_mode) != kind:
            raise Refused("something of another kind was put in its place")
        owned = (found.st_uid, found.st_gid) == ids
        if owned and stat.S_IMODE(found.st_mode) == mode:
            return False
        if not check:
            place = f"/proc/self/fd/{descriptor}"
            if not owned:
                os.chown(place, *ids)
            os.chmod(place, mode)
        return True
    finally:
        os.close(descriptor)


def set_attributes(
    path: str, mode: int | None, uid: int | None, gid: int | None, follow: bool
) -> None:
    """Set mode and owner; None: stays. Without `follow` a link's own owner, and no mode."""
    ids = (-1 if uid is None else uid, -1 if gid is None else gid)
    # A descriptor that stands for the place only: nobody can put a link there in between.
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.lchown(path, *ids)
            return
        found = f"/proc/self/fd/{descriptor}"
        if ids != (-1, -1):
            os.chown(found, *ids)
        if mode is not None:
            os.chmod(found, mode)  # after chown, which takes the set-uid bit away
    finally:
        os.close(descriptor)


def sync_folder(folder: str) -> None:
    """Make a rename in the folder last."""
    descriptor = os.open(folder or "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_folder(path: str, mode: int, owner: str, group: str, check: bool) -> bool:
    """Make a folder exist with this mode and owner; a link to one is none."""
    ids = ids_of(owner, group)
    found = _lstat(path)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise Refused("something that is no folder is in its place")
    if found is not None:
        return _adjust(path, stat.S_IFDIR, mode, ids, check)
    if not check:
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            os.makedirs(parent, 0o755)
        os.mkdir(path, 0o700)
        _adjust(path, stat.S_IFDIR, mode, ids, check)
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
        put_link(os.symlink, target, path)
    return True


def put_link(make: Callable[[str, str], None], target: str, path: str) -> None:
    """Make a link beside its place (`os.symlink`, `os.link`), and rename it over what is there."""
    folder, name = os.path.split(path)
    new = os.path.join(folder, beside.name_beside(name, beside.mark()))
    with naming(path):
        try:
            make(target, new)
            os.rename(new, path)
        finally:  # also a second name of the same file, which no rename takes away
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
        sync_folder(folder)


def remove(path: str, check: bool) -> bool:
    """Make nothing be at a path; what is mounted below it is never emptied."""
    import shutil

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
