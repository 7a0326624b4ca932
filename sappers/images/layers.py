"""Which file goes into which part of an image, so that a small change stays small.

Images travel in chunks of 1 MiB, and one more byte shifts all that follows it. So an image is made
of layers that begin at whole chunks, and a file's layer depends on its path alone: when a file
changes, its layer does, and no other.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from pathlib import PurePosixPath

from sappers.images.archive import Entry, with_parents

ALIGNMENT_BYTES = 1 << 20  # a chunk


def layers(
    groups: Sequence[Sequence[Entry]], layer_bytes: int, *, whole: int = 0
) -> list[list[Entry]]:
    """Entries by layer; each layer has the folders that its files need.

    Args:
        groups: Files that change together, what changes least first. Of two entries for one path
            the later stays.
        layer_bytes: About how large a layer should be; must not depend on a file's exact size.
        whole: How many groups, from the first, are not divided: what they are made of changes
            all at once.
    """
    folders = {
        entry.path: entry
        for entry in with_parents(entry for group in groups for entry in group)
        if stat.S_ISDIR(entry.mode)
    }
    last = {entry.path: number for number, group in enumerate(groups) for entry in group}
    found: list[list[Entry]] = []
    for number, group in enumerate(groups):
        own = [entry for entry in group if last[entry.path] == number]
        parts = [own] if number < whole else _divided(own, layer_bytes)
        found += [_with_folders(part, folders) for part in parts if part]
    return found


def power_of_two(least: int) -> int:
    """The smallest power of two that is not below `least`."""
    return 1 << max(0, least - 1).bit_length()


def _divided(group: Sequence[Entry], layer_bytes: int) -> list[list[Entry]]:
    names: dict[int, str] = {}
    for entry in sorted(group, key=lambda entry: entry.path):
        if entry.link:
            names.setdefault(entry.link, entry.path)  # names of one file stay together
    sizes = {names.get(entry.link, entry.path): entry.size_bytes for entry in group}
    large = {path for path, size in sizes.items() if size > layer_bytes // 2}
    rest = sum(size for path, size in sizes.items() if path not in large)
    count = power_of_two(-(-rest // layer_bytes))
    parts: dict[tuple[str, int], list[Entry]] = {}
    for entry in group:
        path = names.get(entry.link, entry.path)
        key = (path, 0) if path in large else ("", _number(path) % count)
        parts.setdefault(key, []).append(entry)
    return [parts[key] for key in sorted(parts)]


def _number(path: str) -> int:
    text = path.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def _with_folders(part: list[Entry], folders: dict[str, Entry]) -> list[Entry]:
    table = {entry.path: folders.get(entry.path, entry) for entry in part}
    for path in list(table):
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                table.setdefault(str(parent), folders[str(parent)])
    return [table[path] for path in sorted(table)]
