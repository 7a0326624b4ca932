"""What a build that is repeated finds of the one before."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images.build_records import BuildRecords, building
from sappers.images.store import FolderImageStore
from sappers.model.image import Manifest, NanosBoot
from tests.image_stores import KEY, make_store

INPUTS = "ab" * 32


def kept(tmp_path: Path) -> tuple[BuildRecords, FolderImageStore, str]:
    store = make_store(tmp_path / "images")
    records = BuildRecords(tmp_path / "cache", store, KEY)
    disk = NanosBoot(store.put([b"a disk"]))
    return records, store, records.keep(INPUTS, Manifest("hello", "x86_64", disk))


def test_what_was_built_of_the_same_inputs_is_found_and_named_again(tmp_path: Path) -> None:
    records, store, digest = kept(tmp_path)
    store.remove_name("hello")
    assert records.find(INPUTS) == digest
    assert store.named() == {"hello": digest}
    assert records.find("cd" * 32) is None


@pytest.mark.parametrize("content", ["", "no digest\n", "00" * 32])
def test_a_torn_record_or_one_of_an_image_that_is_gone_means_building(
    tmp_path: Path, content: str
) -> None:
    records, _, _ = kept(tmp_path)
    (tmp_path / "cache" / "builds" / INPUTS).write_text(content)
    assert records.find(INPUTS) is None


def test_an_image_that_lacks_a_chunk_is_built_again(tmp_path: Path) -> None:
    records, store, digest = kept(tmp_path)
    manifest = store.manifest(digest)
    assert manifest is not None
    (chunk,) = manifest.chunks()
    (tmp_path / "images" / "chunks" / chunk[:2] / chunk).unlink()
    assert records.find(INPUTS) is None


def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught, building("hello", tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert f"cannot build hello: {tmp_path}: No space left" in caught.value.message
    assert caught.value.hint == "free some space and repeat"
