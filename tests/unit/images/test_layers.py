"""Layers: every file once, folders where they are needed, and small changes stay small."""

from __future__ import annotations

import stat

from hypothesis import given
from hypothesis import strategies as st

from sappers.images.archive import Entry, file_entry, folder_entry
from sappers.images.layers import layers, power_of_two

NAMES = st.text("abc", min_size=1, max_size=2)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "d/" + "/".join(parts) + ".f")
FILES = st.dictionaries(PATHS, st.integers(0, 4000), max_size=40)


def entries(files: dict[str, int]) -> list[Entry]:
    return [file_entry(path, b"x" * size) for path, size in files.items()]


def files_of(parts: list[list[Entry]]) -> list[str]:
    return [entry.path for part in parts for entry in part if stat.S_ISREG(entry.mode)]


@given(FILES, FILES, st.sampled_from([1, 100, 1000, 10**6]))
def test_every_file_is_in_one_layer_below_its_folders(base, own, layer_bytes):
    parts = layers([entries(base), entries(own)], layer_bytes, whole=1)
    assert sorted(files_of(parts)) == sorted({**base, **own})
    for part in parts:
        seen: set[str] = set()
        for entry in part:
            parent = entry.path.rpartition("/")[0]
            assert not parent or parent in seen
            seen.add(entry.path)


@given(FILES.filter(bool), st.data(), st.integers(0, 400))
def test_another_content_of_one_file_changes_one_layer(files, data, size):
    """As long as all files together stay within the same number of layers."""
    files = {path: length % 400 for path, length in files.items()}
    changed = data.draw(st.sampled_from(sorted(files)))
    before = layers([entries(files)], 1000)
    after = layers([entries(files | {changed: size})], 1000)
    totals = (sum(files.values()), sum((files | {changed: size}).values()))
    if power_of_two(-(-totals[0] // 1000)) == power_of_two(-(-totals[1] // 1000)):
        assert len(before) == len(after)
        different = [number for number, part in enumerate(before) if part != after[number]]
        assert len(different) <= 1


def test_a_large_file_is_alone_and_names_of_one_file_stay_together():
    linked = [Entry(f"d/{name}", stat.S_IFREG | 0o644, b"y", link=7) for name in "abcdefgh"]
    parts = layers([[file_entry("big", b"x" * 900), *entries({"s": 1}), *linked]], 4)
    where = [number for number, part in enumerate(parts) if any(e.link for e in part)]
    assert len(where) == 1
    assert ["big"] in [[entry.path for entry in part] for part in parts]


def test_a_folder_has_the_same_permissions_in_every_layer():
    parts = layers(
        [[file_entry("tmp/a", b"1")], [folder_entry("tmp", 0o1777), file_entry("tmp/b", b"2")]], 1
    )
    modes = {entry.mode for part in parts for entry in part if entry.path == "tmp"}
    assert modes == {stat.S_IFDIR | 0o1777}


def test_the_later_of_two_files_stays():
    (part,) = layers([[file_entry("a", b"old")], [file_entry("a", b"new")]], 100)
    assert [entry.content for entry in part] == [b"new"]
