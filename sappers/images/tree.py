"""A guest's file system before there is one: built in memory from tar archives and files.

Invariant: nothing is ever extracted to a path that an archive names. Names are resolved inside this
tree alone, where every parent is a folder, and contents lie in a spool under numbers; so no archive
can reach a file of the machine that builds, whatever its links say. Owners and permissions are
kept as data, which is why no build needs root.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from sappers.errors import ImageError
from sappers.images.archive import Entry
from sappers.images.tars import DAMAGED, MEMBERS_MAX, stream_members

_LINKS_MAX = 40
_DEPTH_MAX = 256  # folders are walked by functions that call themselves
_SPARE_BYTES = 64 << 20  # of the builder's disk
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_CAPABILITY = "SCHILY.xattr.security.capability"
_SPOOLED_ABOVE_BYTES = 4096
_IN_MEMORY_BYTES = 256 << 20  # of files that are not spooled, together
_NAME_BYTES_MAX, _LINK_BYTES_MAX = 255, 4095  # of Linux
OWNER_MAX = (1 << 32) - 2  # the next one is nobody's: "leave it as it is"


class Inode:
    """A file, link or device; several paths may name one."""

    __slots__ = ("content", "group_id", "mode", "user_id")

    def __init__(
        self, mode: int, content: Path | bytes = b"", user_id: int = 0, group_id: int = 0
    ) -> None:
        self.mode = mode
        self.content = content
        self.user_id = user_id
        self.group_id = group_id


class Folder(Inode):
    """A folder and what is in it."""

    __slots__ = ("children",)

    def __init__(self, mode: int = 0o755, user_id: int = 0, group_id: int = 0) -> None:
        super().__init__(stat.S_IFDIR | mode, b"", user_id, group_id)
        self.children: dict[str, Inode] = {}


class _Layer:
    """What one archive brought to a tree: its own deletions spare that.

    It is known by its place, not by its inode: a new name of an older file leaves the old name old.
    """

    def __init__(self) -> None:
        self._brought: set[tuple[Folder, str]] = set()
        self._cleared: set[Folder] = set()

    def bring(self, folder: Folder, name: str) -> None:
        """The archive has something of this name in that folder."""
        self._brought.add((folder, name))

    def clear(self, folder: Folder) -> None:
        """Take all from a folder that was there before; again it would find nothing."""
        if folder in self._cleared:
            return
        self._cleared.add(folder)
        for name in list(folder.children):
            self.delete(folder, name)

    def delete(self, folder: Folder, name: str) -> None:
        """Take what was there before of this name, with all that was in it."""
        child = folder.children.get(name)
        if isinstance(child, Folder):
            self.clear(child)
            if child.children:
                return
        if child is not None and (folder, name) not in self._brought:
            del folder.children[name]


class Tree:
    """Folders, files and links of a guest.

    Args:
        spool: An empty folder for contents.
        name: What it is, for errors.
    """

    def __init__(self, spool: Path, name: str) -> None:
        self.root = Folder()
        self.name = name
        self.dropped_capabilities: list[str] = []
        self._spool = spool
        self._numbers = itertools.count()
        self._members = 0
        self._in_memory_bytes = 0

    def find(self, path: str) -> Inode | None:
        """What a path leads to, links followed, or None."""
        try:
            return self._walk(_parts(path), make=False)
        except (LookupError, ImageError):
            return None

    def read(self, path: str, limit_bytes: int = 1 << 20) -> bytes | None:
        """A small file's content, or None where no file is."""
        found = self.find(path)
        if found is None or not stat.S_ISREG(found.mode):
            return None
        content = found.content
        if isinstance(content, bytes):
            return content
        with content.open("rb") as file:
            return file.read(limit_bytes)

    def first_file(self, paths: Iterable[str]) -> str | None:
        """The first of these paths that leads to a regular file, or None when none does."""
        for path in paths:
            found = self.find(path)
            if found is not None and stat.S_ISREG(found.mode):
                return path
        return None

    def put(self, path: str, inode: Inode) -> tuple[Folder, str]:
        """Place something; folders above are made, what was there goes. The folder, and its name.

        A folder over a folder keeps what is in it.
        """
        folder, name = self._parent(_parts(path), make=True)
        if not name:
            self._retouch(self.root, inode)
            return folder, name
        present = folder.children.get(name)
        if isinstance(present, Folder) and isinstance(inode, Folder):
            self._retouch(present, inode)
        else:
            folder.children[name] = inode
        return folder, name

    def remove(self, path: str) -> None:
        """Make nothing be there."""
        try:
            folder, name = self._parent(_parts(path), make=False)
        except LookupError:
            return
        folder.children.pop(name, None)

    def add_tar(self, stream: BinaryIO, *, folders_follow_links: bool = False) -> None:
        """Lay the files of an archive over the tree; deletions as OCI layers mark them.

        Args:
            stream: An uncompressed tar.
            folders_follow_links: A folder goes where a link in its place leads, as dpkg does it,
                instead of replacing the link.

        Raises:
            ImageError: The archive is damaged, or a name leads outside.
        """
        layer = _Layer()
        try:
            for archive, member in stream_members(stream):
                if folders_follow_links and member.isdir() and self._is_link(member.name):
                    continue
                self._add_member(archive, member, layer)
        except DAMAGED as error:
            raise ImageError(f"{self.name}: an archive is damaged: {error}") from error

    def entries(self, keep: Callable[[str], bool] | None = None) -> Iterator[Entry]:
        """Everything in it, parents first, in the order of names.

        Args:
            keep: Asked for each path; a folder that it does not keep is left out with all below.
        """

        def walk(folder: Folder, prefix: str) -> Iterator[Entry]:
            for name in sorted(folder.children):
                inode, path = folder.children[name], f"{prefix}{name}"
                if keep is not None and not keep(path):
                    continue
                yield Entry(
                    path,
                    inode.mode,
                    inode.content,
                    user_id=inode.user_id,
                    group_id=inode.group_id,
                    link=id(inode) if stat.S_ISREG(inode.mode) else 0,
                )
                if isinstance(inode, Folder):
                    yield from walk(inode, f"{path}/")

        return walk(self.root, "")

    def _add_member(self, archive: tarfile.TarFile, member: tarfile.TarInfo, layer: _Layer) -> None:
        self._count()
        parts = self._checked(member.name)
        name = parts[-1] if parts else ""
        if name.startswith(_WHITEOUT):
            self._delete(parts, layer)
            return
        path = "/".join(parts)
        if _CAPABILITY in member.pax_headers:
            self.dropped_capabilities.append(path)
        if member.islnk():
            inode = self._linked(path, member.linkname)
        else:
            found = self._inode(archive, member)
            if found is None:
                return
            inode = found
        layer.bring(*self.put(path, inode))

    def _count(self) -> None:
        """One more file or folder; those above a file, which no archive need name, count as well.

        Raises:
            ImageError: There are more than any root has.
        """
        self._members += 1
        if self._members > MEMBERS_MAX:
            raise ImageError(f"{self.name}: more than {MEMBERS_MAX:,} files and folders")

    def _is_link(self, name: str) -> bool:
        found = self.find_exactly("/".join(self._checked(name)))
        return found is not None and stat.S_ISLNK(found.mode)

    def find_exactly(self, path: str) -> Inode | None:
        """What stands at a path itself, a link as a link; or None."""
        try:
            folder, name = self._parent(_parts(path), make=False)
        except LookupError:
            return None
        return folder.children.get(name) if name else folder

    def _linked(self, path: str, target: str) -> Inode:
        found = self.find_exactly("/".join(self._checked(target)))
        if found is None or isinstance(found, Folder):
            raise ImageError(f"{self.name}: {path} is a hard link to {target}, which is no file")
        return found

    def _inode(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Inode | None:
        """The member as a node; None for what a guest makes itself (devices)."""
        permissions = member.mode & 0o7777
        owner = (member.uid, member.gid)
        if not all(0 <= one <= OWNER_MAX for one in owner):
            raise ImageError(f"{self.name}: {member.name} has an owner that no file can have")
        if member.isdir():
            return Folder(permissions, *owner)
        if member.issym():
            link = member.linkname.encode("utf-8", "surrogateescape")
            if not 0 < len(link) <= _LINK_BYTES_MAX or b"\0" in link:
                raise ImageError(f"{self.name}: {member.name} is a link to nothing that can be")
            return Inode(stat.S_IFLNK | 0o777, link, *owner)
        if member.isfifo():
            return Inode(stat.S_IFIFO | permissions, b"", *owner)
        if not member.isreg():
            return None
        return Inode(stat.S_IFREG | permissions, self._content(archive, member), *owner)

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Path | bytes:
        source = archive.extractfile(member)
        assert source is not None
        if (
            member.size <= _SPOOLED_ABOVE_BYTES
            and self._in_memory_bytes + member.size <= _IN_MEMORY_BYTES
        ):
            self._in_memory_bytes += member.size
            return source.read()
        if shutil.disk_usage(self._spool).free - member.size < _SPARE_BYTES:
            raise ImageError(  # a few bytes may unpack to any number
                f"{self.name}: no room to unpack {member.name}, {member.size} bytes",
                hint="free some space and repeat, if it ought to be so large",
            )
        path = self._spool / str(next(self._numbers))
        with path.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        if path.stat().st_size != member.size:
            raise ImageError(f"{self.name}: an archive ends within {member.name}")
        return path

    def _delete(self, parts: list[str], layer: _Layer) -> None:
        """Do what a whiteout says: to one name, or to all a folder had before this layer."""
        name = parts[-1]
        if name == _OPAQUE:
            opaque = self.find_exactly("/".join(parts[:-1]))
            if isinstance(opaque, Folder):
                layer.clear(opaque)
            return
        gone = name.removeprefix(_WHITEOUT)
        if gone in ("", ".", ".."):
            raise ImageError(f"{self.name}: {name!r} deletes nothing that has a name")
        if gone.startswith(_WHITEOUT):
            return  # older storage drivers' own bookkeeping
        with contextlib.suppress(LookupError):
            layer.delete(self._parent([*parts[:-1], gone], make=False)[0], gone)

    def _checked(self, name: str) -> list[str]:
        """The parts of a member's name; one that begins with `/` begins at the root of the tree.

        Raises:
            ImageError: It would lead outside.
        """
        if ".." in name.split("/") or "\0" in name:
            raise ImageError(f"{self.name}: an archive names {name!r}, which leads outside of it")
        parts = _parts(name)
        if any(len(part.encode("utf-8", "surrogateescape")) > _NAME_BYTES_MAX for part in parts):
            raise ImageError(f"{self.name}: {name[:80]!r}… is too long for the name of a file")
        return parts

    def _parent(self, parts: list[str], *, make: bool) -> tuple[Folder, str]:
        if not parts:
            return self.root, ""
        found = self._walk(parts[:-1], make=make)
        if not isinstance(found, Folder):
            raise LookupError("/".join(parts))
        return found, parts[-1]

    def _walk(self, parts: list[str], *, make: bool) -> Inode:
        """Follow a path and the links in it.

        Raises:
            LookupError: It leads to nothing (and nothing is to be made).
            ImageError: Links go round, or folders are too deep.
        """
        trail: list[Folder] = [self.root]
        todo, links = list(reversed(parts)), 0
        current: Inode = self.root
        while todo:
            part = todo.pop()
            if part == "..":
                if len(trail) > 1:  # above the root is the root, as everywhere
                    trail.pop()
                current = trail[-1]
                continue
            folder = trail[-1]
            child = folder.children.get(part)
            if child is not None and stat.S_ISLNK(child.mode):
                links += 1
                if links > _LINKS_MAX:
                    raise ImageError(f"{self.name}: the links of {'/'.join(parts)} go round")
                assert isinstance(child.content, bytes)
                target = child.content.decode("utf-8", "surrogateescape")
                if target.startswith("/"):
                    del trail[1:]
                    current = self.root
                todo.extend(reversed(_parts(target)))
                continue
            if not isinstance(child, Folder) and (make or child is None or todo):
                if not make:
                    raise LookupError("/".join(parts))
                self._count()
                child = folder.children[part] = Folder()
            current = child
            if isinstance(child, Folder):
                trail.append(child)
                if len(trail) > _DEPTH_MAX:
                    raise ImageError(f"{self.name}: folders are too deep: {'/'.join(parts)[:80]}…")
        return current

    @staticmethod
    def _retouch(folder: Folder, as_in: Inode) -> None:
        folder.mode, folder.user_id, folder.group_id = as_in.mode, as_in.user_id, as_in.group_id


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
