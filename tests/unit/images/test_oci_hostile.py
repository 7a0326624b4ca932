"""Container images made to break whoever unpacks them: refused, and nothing else happens."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images.oci import open_container
from sappers.images.tree import Tree
from tests.unit.images.containers import file, layer, symlink


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
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"\x80" + (1 << 60).to_bytes(11, "big")  # its size without holes
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ImageError, match="no room"):
        _add(tmp_path, bytes(header) + bytes(1024))
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_is_a_link_to_itself_is_none(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(layer(symlink("index.json", "index.json")))
    with pytest.raises(ImageError, match="no container image"), open_container(path):
        pass
