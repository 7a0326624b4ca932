"""The disk that `ops` makes, written again in one fixed order.

    boot loader and partition table | boot file system (the kernel) | root file system

`ops` gives each file system a random id and lays files out in the order of Go's maps, which differs
from run to run: the same inputs make another disk each time. So both file systems (TFS, version 5)
are read and written again: names sorted, files in their order, ids made of the content.
What a guest sees in them stays the same, and it has room to write.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from sappers.errors import ImageError

SECTOR = 512
FREE_SECTORS = (32 << 20) // SECTOR  # for what a guest writes; zeros, which cost next to nothing
_MAGIC, _VERSION = b"NVMTFS", 5
_LOG_SECTORS = 1024
_END, _TUPLE, _TUPLE_GOES_ON, _SEGMENT_END, _LINK = 1, 2, 3, 4, 5
_BUFFER, _TUPLE_VALUE, _VECTOR, _INTEGER, _STRING = range(5)
_RECORD_ROOM = 64  # a record's own header, and the link to the next part of the log
_TABLE, _ENTRY, _LINUX = 446, struct.Struct("<B3sB3sII"), 0x83
_BEYOND_CHS = b"\xfe\xff\xff"

Value = bytes | list["Value"] | dict[str, "Value"]
Node = dict[str, Value]


def write_in_order(source: Path, target: Path) -> None:
    """Write the disk `source` as `target`: the same files, whose bytes depend on nothing else.

    Raises:
        ImageError: It is no disk as `ops` makes them.
    """
    try:
        with source.open("rb") as disk, target.open("wb") as out:
            head = disk.read(SECTOR)
            boot, root = _partitions(head)
            disk.seek(0)
            _copy(disk, out, boot[0] * SECTOR)
            for number, (start, sectors) in enumerate((boot, root)):
                out.truncate(start * SECTOR)
                used = _rewrite(disk, out, start * SECTOR)
                if number == 0 and used > sectors:
                    raise ImageError(f"the kernel does not fit into its {sectors} sectors")
            out.truncate((root[0] + used + FREE_SECTORS) * SECTOR)
            out.seek(_TABLE)
            out.write(_table(head, root[0], used + FREE_SECTORS))
    except (IndexError, KeyError, ValueError, struct.error, AttributeError, TypeError) as error:
        raise ImageError(f"{source.name} is no disk as this version of ops makes it") from error


def tree(disk: BinaryIO, start: int) -> Node:
    """What the file system at this byte holds: metadata, and its files below `children`."""
    return _decode(_log(disk, start))


def root_start(disk: BinaryIO) -> int:
    """The byte at which a disk's root file system begins."""
    disk.seek(0)
    return _partitions(disk.read(SECTOR))[1][0] * SECTOR


def _partitions(head: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """(first sector, sectors) of the boot and of the root file system."""
    if head[-2:] != b"\x55\xaa":
        raise ValueError("no partition table")
    entries = [_ENTRY.unpack_from(head, _TABLE + 16 * number) for number in range(4)]
    boot, root = ((entry[4], entry[5]) for entry in entries if entry[2] == _LINUX)
    return boot, root


def _table(head: bytes, root: int, sectors: int) -> bytes:
    """The partition table again, with the root file system's new length."""
    entries = [_ENTRY.unpack_from(head, _TABLE + 16 * number) for number in range(4)]
    return b"".join(
        _ENTRY.pack(*entry[:3], _BEYOND_CHS, root, sectors)
        if entry[2] == _LINUX and entry[4] == root
        else _ENTRY.pack(*entry)
        for entry in entries
    )


def _rewrite(disk: BinaryIO, out: BinaryIO, start: int) -> int:
    """Write one file system at the same place; the sectors it takes."""
    root = tree(disk, start)
    free = 1 + _LOG_SECTORS
    for file in _files(root):
        sources = _extents(file)
        length = sum(sectors for _, sectors in sources)
        out.seek(start + free * SECTOR)
        for offset, sectors in sources:
            disk.seek(start + offset * SECTOR)
            _copy(disk, out, sectors * SECTOR)
        file["extents"] = _one_extent(free, length)
        free += length
    # Where a disk ends with its last file, that may be no whole sector long.
    return _write_log(out, start, encode(root), free)


def _files(node: Node) -> Iterator[Node]:
    """Every file below a folder, in the order of the names."""
    children = node.get("children")
    if isinstance(children, dict):
        for name in sorted(children):
            child = children[name]
            assert isinstance(child, dict)
            yield from _files(child)
    elif "extents" in node:
        yield node


def _extents(file: Node) -> list[tuple[int, int]]:
    """(first sector, sectors) of a file's parts, in the order of the file."""
    found = file["extents"]
    assert isinstance(found, dict)
    parts = []
    for place in sorted(found, key=int):
        part = found[place]
        assert isinstance(part, dict)
        offset, length = (part[key] for key in ("offset", "length"))
        assert isinstance(offset, bytes) and isinstance(length, bytes)
        parts.append((int(offset), int(length)))
    return parts


def _one_extent(offset: int, length: int) -> Value:
    if not length:
        return {}
    told = str(length).encode()
    return {"0": {"allocated": told, "length": told, "offset": str(offset).encode()}}


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    """Copy bytes; zeros where the source ends."""
    while count:
        block = source.read(min(count, 1 << 20))
        target.write(block or bytes(min(count, SECTOR)))
        count -= len(block) or min(count, SECTOR)


def _log(disk: BinaryIO, start: int) -> bytes:
    """The bytes of the one tuple that a freshly made file system's log holds."""
    found = b""
    sector, sectors = 0, 1
    while sector >= 0:
        disk.seek(start + sector * SECTOR)
        block = _Reader(disk.read(sectors * SECTOR))
        if block.take(len(_MAGIC)) != _MAGIC or block.number() != _VERSION:
            raise ValueError("not TFS 5")
        if block.number() != sectors:
            raise ValueError("not the part of a log that was linked to")
        if sector == 0:
            block.take(16)
            while block.take(1) != b"\0":
                pass  # the label
        sector = -1
        while (record := block.take(1)[0]) != _END:
            if record == _LINK:
                sector, sectors = block.number(), block.number()
                break
            if record == _TUPLE:
                if found:
                    raise ValueError("more than one tuple")
                block.number()  # the whole length
            elif record != _TUPLE_GOES_ON:
                if record == _SEGMENT_END:
                    continue
                raise ValueError(f"record {record}")
            found += block.take(block.number())
    return found


def _write_log(out: BinaryIO, start: int, content: bytes, free: int) -> int:
    """Write the log: a sector with the id, then parts of `_LOG_SECTORS`; the sectors in use."""
    identity = hashlib.sha256(content).digest()[:16]
    part = _part(1, identity + b"\0")
    at, size, following = 0, SECTOR, 1
    left, first = content, True
    while True:
        part += bytes([_LINK]) + _number(following) + _number(_LOG_SECTORS)
        _write_part(out, start + at * SECTOR, part, size)
        at, size = following, _LOG_SECTORS * SECTOR
        part = _part(_LOG_SECTORS, b"")
        room = size - len(part) - _RECORD_ROOM
        record = bytes([_TUPLE]) + _number(len(content)) if first else bytes([_TUPLE_GOES_ON])
        part += record + _number(len(left[:room])) + left[:room]
        left, first = left[room:], False
        if not left:
            _write_part(out, start + at * SECTOR, part + bytes([_END]), size)
            return free
        following, free = free, free + _LOG_SECTORS


def _part(sectors: int, identity: bytes) -> bytes:
    return _MAGIC + _number(_VERSION) + _number(sectors) + identity


def _write_part(out: BinaryIO, at: int, part: bytes, size: int) -> None:
    out.seek(at)
    out.write(part.ljust(size, b"\0"))


class _Reader:
    """Takes bytes and numbers off the front of a block."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._at = 0

    def take(self, count: int) -> bytes:
        found = self._block[self._at : self._at + count]
        if len(found) != count:
            raise ValueError("it ends early")
        self._at += count
        return found

    def number(self, start: int = 0) -> int:
        """Seven bits a byte, the highest first; the eighth bit says that more follow."""
        found = start
        while True:
            byte = self.take(1)[0]
            found = found << 7 | byte & 0x7F
            if not byte & 0x80:
                return found

    def header(self) -> tuple[bool, int, int]:
        """Whether a value itself follows (else it is a reference), its type, its length."""
        byte = self.take(1)[0]
        length = byte & 7
        return bool(byte & 0x80), byte >> 4 & 7, self.number(length) if byte & 8 else length


def _decode(content: bytes) -> Node:
    reader = _Reader(content)
    names: dict[int, str] = {}
    seen = 0

    def name() -> str:
        nonlocal seen
        immediate, kind, length = reader.header()
        if kind != _BUFFER:
            raise ValueError("a name that is none")
        if not immediate:
            return names[length]
        seen += 1
        names[seen] = reader.take(length).decode("utf-8", "surrogateescape")
        return names[seen]

    def value() -> Value:
        nonlocal seen
        immediate, kind, length = reader.header()
        if not immediate or kind == _INTEGER:
            raise ValueError("a value that ops does not write")
        if kind in (_BUFFER, _STRING):
            return reader.take(length)
        seen += 1
        if kind == _TUPLE_VALUE:
            return {name(): value() for _ in range(length)}
        return [value() for _ in range(length)]

    root = value()
    if not isinstance(root, dict):
        raise ValueError("no tuple")
    return root


def encode(root: Mapping[str, Value]) -> bytes:
    """A tree as the bytes of a tuple, names in order."""
    out = bytearray()
    names: dict[str, int] = {}
    seen = 0

    def put(value: Value | Mapping[str, Value]) -> None:
        nonlocal seen
        if isinstance(value, bytes):
            out.extend(_header(_STRING, len(value)) + value)
            return
        seen += 1
        if isinstance(value, list):
            out.extend(_header(_VECTOR, len(value)))
            for one in value:
                put(one)
            return
        out.extend(_header(_TUPLE_VALUE, len(value)))
        for name in sorted(value):
            if name in names:
                out.extend(_header(_BUFFER, names[name], immediate=False))
            else:
                seen += 1
                names[name] = seen
                raw = name.encode("utf-8", "surrogateescape")
                out.extend(_header(_BUFFER, len(raw)) + raw)
            put(value[name])

    put(root)
    return bytes(out)


def _header(kind: int, length: int, *, immediate: bool = True) -> bytes:
    first = (0x80 if immediate else 0) | kind << 4
    if length < 8:
        return bytes([first | length])
    words = _number(length)
    if words[0] & 0x7F < 8 and len(words) > 1:  # its highest bits go into the first byte
        return bytes([first | 8 | words[0] & 7]) + words[1:]
    return bytes([first | 8]) + words


def _number(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | value & 0x7F)
    return bytes(reversed(out))
