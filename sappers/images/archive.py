"""Initramfs archives: `newc` cpio, the same bytes for the same content."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

_PAD = 4
_PIECE_BYTES = 1 << 20


class Entry(msgspec.Struct, frozen=True):
    """One file of an archive; none has a time.

    Attributes:
        path: Where it goes, relative, no leading slash.
        mode: Type and permission bits.
        content: A file on disk, bytes, or the target of a symbolic link as bytes.
        device: Major and minor number of a device file.
        link: Files with the same number other than 0 are one, under several names.
    """

    path: str
    mode: int
    content: Path | bytes = b""
    device: tuple[int, int] = (0, 0)
    user_id: int = 0
    group_id: int = 0
    link: int = 0

    @property
    def size_bytes(self) -> int:
        """Length of the content."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return self.content.stat().st_size


def file_entry(path: str, content: Path | bytes, *, executable: bool = False) -> Entry:
    """A regular file."""
    return Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), content)


def folder_entry(path: str, permissions: int = 0o755) -> Entry:
    """A folder."""
    return Entry(path, stat.S_IFDIR | permissions)


def tree_entries(root: Path, prefix: str = "") -> list[Entry]:
    """Everything below `root`, placed below `prefix`."""
    found: list[Entry] = []
    for path in sorted(root.rglob("*")):
        name = f"{prefix}{path.relative_to(root)}"
        if path.is_symlink():
            found.append(Entry(name, stat.S_IFLNK | 0o777, str(path.readlink()).encode()))
        elif path.is_dir():
            found.append(folder_entry(name))
        else:
            found.append(file_entry(name, path, executable=bool(path.stat().st_mode & 0o100)))
    return found


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """Sorted, with every parent folder; of two entries for one path the later stays."""
    table = {entry.path: entry for entry in entries}
    for path in list(table):
        for parent in Path(path).parents:
            if str(parent) != ".":
                table.setdefault(str(parent), folder_entry(str(parent)))
    return [table[path] for path in sorted(table)]


def cpio(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The archive in pieces: sorted, with every parent folder, no times.

    Two entries for one path: the later wins.
    """
    members = with_parents(entries)
    names = Counter(entry.link for entry in members)
    inodes: dict[int, int] = {}
    for number, entry in enumerate(members, start=1):
        if entry.link and names[entry.link] > 1:
            again = entry.link in inodes  # the first name carries the content
            inode = inodes.setdefault(entry.link, number)
            yield from _member(inode, entry, links=names[entry.link], empty=again)
        else:
            yield from _member(number, entry, links=2 if stat.S_ISDIR(entry.mode) else 1)
    yield from _member(0, Entry("TRAILER!!!", 0), links=1)


def _member(inode: int, entry: Entry, *, links: int, empty: bool = False) -> Iterator[bytes]:
    size = 0 if empty else entry.size_bytes
    name = entry.path.encode("utf-8", "surrogateescape") + b"\0"
    owner = (entry.user_id, entry.group_id)
    fields = (inode, entry.mode, *owner, links, 0, size, 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    yield _padded(header + name)
    if not empty:
        yield from _content(entry.content)
    yield b"\0" * (-size % _PAD)


def _content(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        yield from iter(lambda: file.read(_PIECE_BYTES), b"")


def _padded(block: bytes) -> bytes:
    return block + b"\0" * (-len(block) % _PAD)
