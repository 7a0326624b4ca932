"""Unpacks tar and zip. Nothing is ever written outside the folder, whatever an archive holds.

All is done by descriptors from the folder down, and no link below it is followed: neither one that
was there, nor one that the archive brings. Names with `..`, and devices, are refused.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

from sappers.provisioner.modules import step
from sappers.provisioner.modules.record import Record
from sappers.provisioner.remote import beside, files

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class _Entry(Record):
    member: step.Member
    opened: Callable[[], Any]


def members(file: Any, folder: str) -> list[tuple[step.Member, step.Found | None]]:
    """What an archive holds, each with what is at its place in a folder.

    Raises:
        Refused: It is no archive that we can read, or holds what would go elsewhere.
    """
    with contextlib.ExitStack() as stack:
        root = None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            root = stack.enter_context(files.opened_folder(folder))
        return [(entry.member, _found(root, entry.member.name)) for entry in _entries(file)]


def unpack(file: Any, folder: str, wanted: tuple[step.Member, ...]) -> None:
    """Put members of an archive into a folder that is there.

    Raises:
        Refused: A link or a folder is in the way, or the archive has changed.
    """
    by_name = {member.name: member for member in wanted}
    with files.opened_folder(folder) as root:
        new = _New(root)
        try:
            for entry in _entries(file):
                member = by_name.get(entry.member.name)
                if member is not None:
                    with files.naming(os.path.join(folder, member.name)):
                        new.make(member, entry)
            os.sync()
            new.put_in_place()
        finally:
            new.remove_rest()
        # Folders last: what comes into them changes their times, and they may be read-only.
        for member in sorted(by_name.values(), key=lambda one: one.name, reverse=True):
            if member.kind == "directory":
                _finish_folder(root, member)
    os.sync()


def _entries(file: Any) -> Iterator[_Entry]:
    # Only tasks that unpack wait for these to load.
    import tarfile
    import zipfile

    head = file.read(4)
    file.seek(0)
    with _reading():
        if head in _ZIP:
            with zipfile.ZipFile(file) as archive:
                yield from (_of_zip(archive, info) for info in archive.infolist())
            return
        with tarfile.open(fileobj=file, mode="r:*") as tar:
            for info in tar:
                if _names(info.name):
                    yield _of_tar(tar, info)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Raises Refused for what is wrong with an archive."""
    import tarfile
    import zipfile
    import zlib

    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise files.Refused(f"it is no archive that can be read (tar, zip): {error}") from None


def _names(name: str) -> list[str]:
    """The parts of a member's name; none for the root itself."""
    names = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in names or "\0" in name:
        raise files.Refused(f"{name!r} in the archive leads out of the folder")
    return names


def _of_tar(tar: Any, info: Any) -> _Entry:
    kinds = ((info.isreg, "file"), (info.isdir, "directory"), (info.issym, "link"),
             (info.islnk, "hard"))  # fmt: skip
    kind = next((name for test, name in kinds if test()), "")
    if not kind:
        raise files.Refused(f"{info.name!r} in the archive is a device or a pipe")
    uid = gid = -1
    if os.geteuid() == 0:
        uid, gid = info.uid, info.gid
        with contextlib.suppress(KeyError):
            uid = pwd.getpwnam(info.uname).pw_uid if info.uname else uid
        with contextlib.suppress(KeyError):
            gid = grp.getgrnam(info.gname).gr_gid if info.gname else gid
    target = "/".join(_names(info.linkname)) if kind == "hard" else info.linkname
    member = step.Member(
        "/".join(_names(info.name)), kind, info.mode & 0o7777, uid, gid, info.size,
        int(info.mtime), target if kind in ("link", "hard") else "",
    )  # fmt: skip
    return _Entry(member, lambda: tar.extractfile(info))


def _of_zip(archive: Any, info: Any) -> _Entry:
    mode = info.external_attr >> 16
    kind, target = "directory" if info.is_dir() else "file", ""
    if stat.S_ISLNK(mode):
        kind, target = "link", os.fsdecode(archive.read(info))
    permissions = stat.S_IMODE(mode) or (0o755 if kind == "directory" else 0o644)
    modified = int(time.mktime((*info.date_time, 0, 0, -1)))
    name = "/".join(_names(info.filename))
    member = step.Member(name, kind, permissions, -1, -1, info.file_size, modified, target)
    return _Entry(member, lambda: archive.open(info))


@contextlib.contextmanager
def _parent(root: int, name: str, make: bool) -> Iterator[tuple[int, str]]:
    """The descriptor of the folder that a member is in, and its last name.

    Raises:
        Refused: A link, or something that is no folder, is on the way.
        FileNotFoundError: It is not there, and is not to be made.
    """
    *above, last = name.split("/")
    at = os.dup(root)
    try:
        for part in above:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=at)
            try:
                below = os.open(part, _FOLDER_FLAGS, dir_fd=at)
            except FileNotFoundError:
                raise
            except OSError:
                raise files.Refused(
                    f"{part} on the way to {name} is a link, or no folder"
                ) from None
            os.close(at)
            at = below
        yield at, last
    finally:
        os.close(at)


def _found(root: int | None, name: str) -> step.Found | None:
    if root is None:
        return None
    try:
        with _parent(root, name, False) as (at, last):
            found = os.lstat(last, dir_fd=at)
            kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))
            kind = next((word for test, word in kinds if test(found.st_mode)), "other")
            target = os.readlink(last, dir_fd=at) if kind == "link" else ""
    except (FileNotFoundError, files.Refused):
        return None
    raw = {"st_mtime": found.st_mtime, "st_ino": found.st_ino, "st_nlink": found.st_nlink}
    mode = stat.S_IMODE(found.st_mode)
    return step.Found(kind, mode, found.st_uid, found.st_gid, found.st_size, target, {}, raw)


class _New:
    """Members that are made beside their places, and put there once all of them are on disk.

    So an archive that does not fit changes no file.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._made: dict[str, None] = {}
        # Fixed names, so that what a killed run left is overwritten; another that unpacks here
        # right now, who knows the machine by another name, has these already.
        self._mark = beside.mark() if beside.try_lock(root) is False else "-member"

    def _beside(self, name: str) -> str:
        return beside.name_beside(name, self._mark)

    def make(self, member: step.Member, entry: _Entry) -> None:
        """Make a folder, or something else under another name."""
        self._refuse_new_on_the_way(member.name)
        with _parent(self._root, member.name, True) as (at, last):
            there = None
            with contextlib.suppress(FileNotFoundError):
                there = os.lstat(last, dir_fd=at)
            is_folder = there is not None and stat.S_ISDIR(there.st_mode)
            if member.kind == "directory":
                if (there is not None and not is_folder) or member.name in self._made:
                    raise files.Refused(
                        f"something that is no folder is in the place of {member.name}"
                    )
                if there is None:
                    os.mkdir(last, 0o700, dir_fd=at)
                return
            if is_folder:
                raise files.Refused(f"a folder is in the place of {member.name}")
            new = self._beside(last)
            self._made[member.name] = None
            if member.kind == "file":
                _write(at, new, member, entry)
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=at)
            if member.kind == "link":
                os.symlink(member.target, new, dir_fd=at)
                os.chown(new, member.uid, member.gid, dir_fd=at, follow_symlinks=False)
            else:
                self._make_hard_link(at, new, member.target)

    def _make_hard_link(self, at: int, new: str, target: str) -> None:
        self._refuse_new_on_the_way(target)
        with _parent(self._root, target, False) as (source, name):
            if target in self._made:
                name = self._beside(name)
            os.link(name, new, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False)

    def _refuse_new_on_the_way(self, name: str) -> None:
        """Nothing goes through what the archive itself brings; it is not there yet, and will be."""
        parts = name.split("/")
        for count in range(1, len(parts)):
            if "/".join(parts[:count]) in self._made:
                raise files.Refused(
                    f"{parts[count - 1]} on the way to {name} is a link, or no folder"
                )

    def put_in_place(self) -> None:
        """Rename everything over what is there."""
        for name in self._made:
            with _parent(self._root, name, False) as (at, last):
                os.rename(self._beside(last), last, src_dir_fd=at, dst_dir_fd=at)

    def remove_rest(self) -> None:
        """Take away what did not get to its place.

        Also a second name of the same file, which no rename takes away.
        """
        for name in self._made:
            with contextlib.suppress(OSError), _parent(self._root, name, False) as (at, last):
                os.unlink(self._beside(last), dir_fd=at)


def _write(at: int, new: str, member: step.Member, entry: _Entry) -> None:
    import shutil

    with _reading(), entry.opened() as source, os.fdopen(beside.create(new, at), "wb") as made:
        shutil.copyfileobj(source, made, files.CHUNK_BYTES)
        made.flush()
        os.fchown(made.fileno(), member.uid, member.gid)
        os.fchmod(made.fileno(), member.mode)  # after chown, which takes the set-uid bit away
        os.utime(made.fileno(), (member.modified, member.modified))


def _finish_folder(root: int, member: step.Member) -> None:
    with _parent(root, member.name, False) as (at, last):
        folder = os.open(last, _FOLDER_FLAGS, dir_fd=at)
        try:
            os.fchown(folder, member.uid, member.gid)
            os.fchmod(folder, member.mode)
            os.utime(folder, (member.modified, member.modified))
        finally:
            os.close(folder)
