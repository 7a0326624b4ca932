"""Disks as `ops` makes them, in any order and anywhere, become one and the same disk."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sappers.errors import ImageError
from sappers.images.nanos_disk import SECTOR, root_start, tree, write_in_order

LOG = 1024
PIECE = 300_000
BOOT_AT, BOOT_SECTORS = 16, 4096
ROOT_AT = BOOT_AT + BOOT_SECTORS


def number(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | value & 0x7F)
    return bytes(reversed(out))


def header(kind: int, length: int) -> bytes:
    return bytes([0x80 | kind << 4 | 8]) + number(length)


def tuple_bytes(value: object, dice: random.Random) -> bytes:
    """A value as TFS has it, its names in any order and each written out."""
    if isinstance(value, str):
        return header(4, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return header(2, len(value)) + b"".join(tuple_bytes(one, dice) for one in value)
    assert isinstance(value, dict)
    names = dice.sample(sorted(value), len(value))
    parts = (
        header(0, len(name.encode())) + name.encode() + tuple_bytes(value[name], dice)
        for name in names
    )
    return header(1, len(value)) + b"".join(parts)


def file_system(files: dict[str, bytes], metadata: dict, dice: random.Random) -> bytes:
    """One with every file in a folder `f`, laid out in any order."""
    free, blocks, nodes = 1 + LOG, {}, {}
    for name in dice.sample(sorted(files), len(files)):
        sectors = -(-len(files[name]) // SECTOR)
        extent = {"offset": str(free), "length": str(sectors), "allocated": str(sectors)}
        nodes[name] = {
            "filelength": str(len(files[name])),
            "extents": {"0": extent} if sectors else {},
        }
        blocks[free] = files[name]
        free += sectors
    content = tuple_bytes(metadata | {"children": {"f": {"children": nodes}}}, dice)
    first = b"NVMTFS" + number(5) + number(1) + dice.randbytes(16) + b"\0"
    first += bytes([5]) + number(1) + number(LOG)
    pieces = [content[at : at + PIECE] for at in range(0, len(content), PIECE)]
    place = 1
    for number_, piece in enumerate(pieces):
        record = bytes([3]) if number_ else bytes([2]) + number(len(content))
        part = b"NVMTFS" + number(5) + number(LOG) + record + number(len(piece)) + piece
        last = number_ == len(pieces) - 1
        part += bytes([1]) if last else bytes([5]) + number(free) + number(LOG)
        blocks[place] = part.ljust(LOG * SECTOR, b"\0")
        place, free = free, free + LOG
    image = bytearray(free * SECTOR)
    for at, block in {0: first, **blocks}.items():
        image[at * SECTOR : at * SECTOR + len(block)] = block
    return bytes(image)


def disk(path: Path, files: dict[str, bytes], metadata: dict, seed: int) -> Path:
    dice = random.Random(seed)
    boot = file_system({"kernel": b"the kernel" * 100}, {}, dice)
    root = file_system(files, metadata, dice)
    table = b"".join(
        struct.pack("<B3sB3sII", 0x80, b"abc", 0x83, b"def", at, sectors)
        for at, sectors in ((BOOT_AT, BOOT_SECTORS), (ROOT_AT, len(root) // SECTOR))
    )
    head = b"loader".ljust(446, b"\0") + table.ljust(64, b"\0") + b"\x55\xaa"
    image = bytearray(ROOT_AT * SECTOR) + root
    image[: len(head)] = head
    image[BOOT_AT * SECTOR : BOOT_AT * SECTOR + len(boot)] = boot
    path.write_bytes(image)
    return path


def contents(path: Path) -> dict[str, bytes]:
    """Every file of the folder `f` of a disk's root file system."""
    found = {}
    with path.open("rb") as image:
        start = root_start(image)
        nodes = tree(image, start)["children"]["f"]["children"]
        for name, node in nodes.items():
            content = b""
            for part in node["extents"].values():
                image.seek(start + int(part["offset"]) * SECTOR)
                content += image.read(int(part["length"]) * SECTOR)
            found[name] = content[: int(node["filelength"])]
    return found


names = st.text("abcdefgh.-_é", min_size=1, max_size=40)
contents_of_files = st.dictionaries(names, st.binary(max_size=3000), max_size=12)


@settings(max_examples=40, deadline=None)
@given(files=contents_of_files, seeds=st.tuples(st.integers(), st.integers()))
def test_order_place_and_ids_leave_no_trace(files, seeds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("disks")
    metadata = {"program": "/p", "arguments": ["p", "a"], "environment": {"A": "1", "B": ""}}
    ordered = []
    for number_, seed in enumerate(seeds):
        made = disk(folder / f"made-{number_}", files, metadata, seed)
        ordered.append(folder / f"ordered-{number_}")
        write_in_order(made, ordered[-1])
        assert contents(ordered[-1]) == files
        with made.open("rb") as before, ordered[-1].open("rb") as after:
            was, is_ = (tree(file, root_start(file)) for file in (before, after))
        assert {**was, "children": None} == {**is_, "children": None}
    assert ordered[0].read_bytes() == ordered[1].read_bytes()
    again = folder / "again"
    write_in_order(ordered[0], again)
    assert again.read_bytes() == ordered[0].read_bytes()


def test_a_log_longer_than_one_part_goes_on_behind_the_files(tmp_path):
    files = {f"{number_:05}-{'x' * 200}": b"content" for number_ in range(5000)}
    for seed in (1, 2):
        write_in_order(disk(tmp_path / "made", files, {}, seed), tmp_path / f"{seed}")
    assert contents(tmp_path / "1") == files
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("damage", ["short", "no table", "not TFS"])
def test_what_is_no_such_disk_is_refused(damage, tmp_path):
    made = disk(tmp_path / "made", {"a": b"1"}, {}, 1)
    image = bytearray(made.read_bytes())
    if damage == "short":
        image = image[: ROOT_AT * SECTOR + 100]
    elif damage == "no table":
        image[510:512] = b"\0\0"
    else:
        image[ROOT_AT * SECTOR : ROOT_AT * SECTOR + 6] = b"NVMTFT"
    made.write_bytes(image)
    with pytest.raises(ImageError, match="no disk as this version of ops makes it"):
        write_in_order(made, tmp_path / "ordered")
