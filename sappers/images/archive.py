"""Initramfs archives: `newc` cpio, the same bytes for the same content."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

_PAD = 4


class Entry(msgspec.Struct, frozen=True):
    """One file of an archive; all belong to root and have no time.

    Attributes:
        path: Where it goes, relative, no leading slash.
        mode: Type and permission bits.
        content: A file on disk, bytes, or the target of a symbolic link as bytes.
        device: Major and minor number of a device file.
    """

    path: str
    mode: int
    content: Path | bytes = b""
    device: tuple[int, int] = (0, 0)


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


def cpio(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The archive in pieces: sorted, with every parent folder, no times, root's.

    Two entries for one path: the later wins.
    """
    table = {entry.path: entry for entry in entries}
    for path in list(table):
        for parent in Path(path).parents:
            if str(parent) != ".":
                table.setdefault(str(parent), folder_entry(str(parent)))
    for inode, path in enumerate(sorted(table), start=1):
        yield from _member(inode, table[path])
    yield from _member(0, Entry("TRAILER!!!", 0))


def _member(inode: int, entry: Entry) -> Iterator[bytes]:
    content = entry.content if isinstance(entry.content, bytes) else entry.content.read_bytes()
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(content), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    yield _padded(header + name)
    yield _padded(content)


def _padded(block: bytes) -> bytes:
    return block + b"\0" * (-len(block) % _PAD)
