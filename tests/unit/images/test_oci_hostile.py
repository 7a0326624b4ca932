"""Container images made to break whoever unpacks them: refused, and nothing else happens."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import ItemsView, Iterator
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images.oci import open_container
from sappers.images.tree import Folder, Inode, Tree
from tests.unit.images.containers import Layout, Member, file, layer, symlink


def _add(tmp_path: Path, content: bytes) -> Tree:
    tree = Tree(tmp_path, "it")
    tree.add_tar(io.BytesIO(content))
    list(tree.entries())
    return tree


def test_folders_within_folders_have_an_end(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="too deep"):
        _add(tmp_path, layer(file("a/" * 2000 + "f", "x")))


def test_links_make_no_deeper_folders(tmp_path: Path) -> None:
    deep = "a/" * 200
    links = [symlink("l0", deep)] + [symlink(f"{deep}l{n}", deep) for n in range(1, 9)]
    with pytest.raises(ImageError, match="too deep"):
        _add(tmp_path, layer(*links, file("l0/" + deep + "f", "x")))


def test_a_file_that_claims_more_than_the_disk_has_is_refused_before_it_is_written(
    tmp_path: Path,
) -> None:
    info = tarfile.TarInfo("large")
    info.size = 1 << 60
    with pytest.raises(ImageError, match="no room"):
        _add(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_without_end_is_not_read(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 200 << 20
    with pytest.raises(ImageError, match="header of 209715200 bytes"):
        _add(tmp_path, info.tobuf() + bytes(1024))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_of_headers_have_an_end(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 6
    header = info.tobuf(tarfile.USTAR_FORMAT) + b"6 a=b\n".ljust(tarfile.BLOCKSIZE, b"\0")
    assert len(list(_add(tmp_path, header * 4 + layer(file("f", "x"))).entries())) == 1
    with pytest.raises(ImageError, match="more headers"):
        _add(tmp_path, header * 1000 + layer(file("f", "x")))


def test_what_holds_for_all_files_has_an_end(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    said = {f"field{number}": "x" for number in range(101)}
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=said
    ) as archive:
        archive.addfile(tarfile.TarInfo("f"))
    with pytest.raises(ImageError, match="more headers"):
        _add(tmp_path, buffer.getvalue())


SPARSE_1 = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"


@pytest.mark.parametrize("words", [SPARSE_1, b"21 GNU.sparse.size=9\n", b"22 GNU.sparse.map=0,1\n"])
def test_files_with_holes_are_refused(tmp_path: Path, words: bytes) -> None:
    with pytest.raises(ImageError, match="with holes"):
        _add(tmp_path, _told(words))


def test_files_with_holes_as_gnu_tar_wrote_them_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="with holes"):
        _add(tmp_path, layer(file("f", "", type=tarfile.GNUTYPE_SPARSE)))


@pytest.mark.parametrize("name", ["image.tar", "image.tar.gz"])
def test_an_image_s_own_archive_has_the_same_limits(tmp_path: Path, name: str) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 200 << 20
    content = layer(file("f", "x"))[: 2 * tarfile.BLOCKSIZE] + info.tobuf() + bytes(1024)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(ImageError, match="header of 209715200 bytes"), open_container(path):
        pass
    path.write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(ImageError, match="header of 209715200 bytes"), open_container(path):
        pass


def test_an_image_has_no_files_without_number(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(tarfile.TarInfo("f").tobuf() * 10_001 + bytes(1024))
    with pytest.raises(ImageError, match="more than 10,000 files"), open_container(path):
        pass


def test_files_without_number_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sappers.images.tree.MEMBERS_MAX", 3)
    _add(tmp_path, layer(*(file(str(n), "x") for n in range(3))))
    with pytest.raises(ImageError, match="more than 3 files"):
        _add(tmp_path, layer(*(file(str(n), "x") for n in range(4))))
    _add(tmp_path, layer(file("a/b/f", "x")))
    with pytest.raises(ImageError, match="more than 3 files"):
        _add(tmp_path, layer(file("a/b/c/f", "x")))  # who names a file makes all folders above it


class Counting(dict[str, Inode]):
    """What is in a folder, and how often that of any folder is gone through."""

    walks = 0

    def __iter__(self) -> Iterator[str]:
        Counting.walks += 1
        return super().__iter__()

    def items(self) -> ItemsView[str, Inode]:
        Counting.walks += 1
        return super().items()


class CountedFolder(Folder):
    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.children = Counting()


@pytest.mark.parametrize("deletion", ["d/.wh..wh..opq", "d/e/.wh..wh..opq", ".wh.d"])
def test_a_deletion_that_is_repeated_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deletion: str
) -> None:
    monkeypatch.setattr("sappers.images.tree.Folder", CountedFolder)
    monkeypatch.setattr(Counting, "walks", 0)
    _add(tmp_path, layer(file("d/e/f"), *[file(deletion)] * 100))
    assert Counting.walks < 10


def test_small_files_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.images.tree._IN_MEMORY_BYTES", 10)
    tree = _add(tmp_path, layer(*(file(str(n), f"{n}" * 4) for n in range(4))))
    assert [tree.read(str(n)) for n in range(4)] == [b"0000", b"1111", b"2222", b"3333"]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_index_that_is_a_link_to_itself_is_none(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(layer(symlink("index.json", "index.json")))
    with pytest.raises(ImageError, match="no container image"), open_container(path):
        pass


def _told(length_and_key: bytes) -> bytes:
    """An archive whose first file has these words in its extended header."""
    info = tarfile.TarInfo("f")
    info.type, info.size = tarfile.XHDTYPE, len(length_and_key)
    padding = bytes(-len(length_and_key) % tarfile.BLOCKSIZE)
    return info.tobuf(tarfile.USTAR_FORMAT) + length_and_key + padding + layer(file("f", "x"))


@pytest.mark.parametrize(
    "words",
    [
        b"0 a=b\n",
        b"99999999999999999999 a=b\n",
    ],
)
def test_numbers_that_are_none_are_damage(tmp_path: Path, words: bytes) -> None:
    with pytest.raises(ImageError, match="damaged"):
        _add(tmp_path, _told(words))


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (file("f", "x", pax_headers={"uid": "-1"}), "owner"),
        (file("f", "x", pax_headers={"gid": str(1 << 32)}), "owner"),
        (file("x" * 256, "x"), "name of a file"),
        (symlink("l", ""), "link to nothing"),
        (symlink("l", "x" * 4096), "link to nothing"),
    ],
)
def test_what_no_file_system_holds_is_refused(tmp_path: Path, member: Member, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        _add(tmp_path, layer(member))


@pytest.mark.parametrize("place", range(1000, 20_000, 1000))
def test_a_tar_whose_compression_is_damaged_says_so(tmp_path: Path, place: int) -> None:
    layout = Layout()
    content = random.Random(1).choices(b"0123456789abcdef", k=40_000)
    layout.index(layout.image([layer(file("f", bytes(content)))], ""))
    packed = bytearray(gzip.compress(layout.write_tar(tmp_path / "plain.tar").read_bytes()))
    packed[place : place + 50] = b"\xff" * 50
    path = tmp_path / "image.tar.gz"
    path.write_bytes(packed)
    with pytest.raises(ImageError), open_container(path) as image:
        list(image.unpack(Tree(tmp_path, "it")))


def test_documents_that_nest_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(layer(file("index.json", '{"x":' + "[" * 100_000)))
    with pytest.raises(ImageError, match=r"index\.json cannot be read"), open_container(path):
        pass


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop"])
def test_a_layer_of_an_impossible_name_is_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "manifest.json").write_text(json.dumps([{"Config": name, "Layers": []}]))
    with pytest.raises(ImageError, match="is missing"), open_container(tmp_path):
        pass
