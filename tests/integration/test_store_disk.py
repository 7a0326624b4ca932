"""The image store on a disk that is full: refused with a hint, and whole again afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sappers.errors import ImageError, ImageIncomplete
from sappers.images.archive_file import export_image, import_image
from sappers.model.image import CHUNK_BYTES, Manifest, NanosBoot
from tests.image_stores import KEY, copy_image, files, make_store, put_image

CONTENT = os.urandom(6 * CHUNK_BYTES)


def test_a_build_that_does_not_fit_is_refused(small_disk: Path) -> None:
    store = make_store(small_disk)
    with pytest.raises(ImageError, match="no room") as refused:
        put_image(store, initrd=CONTENT)
    assert refused.value.hint == "free some space and repeat"
    assert store.named() == {}
    assert not any(name.startswith(".") for name in files(small_disk))
    store.prune([])
    assert files(small_disk) == set()


def test_a_download_goes_on_once_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    source, store = make_store(tmp_path / "source"), make_store(small_disk / "images")
    (ballast := small_disk / "ballast").write_bytes(bytes(2 * CHUNK_BYTES))
    digest = put_image(source, initrd=CONTENT[: 3 * CHUNK_BYTES])
    with pytest.raises(ImageError, match="no room"):
        copy_image(source, store, digest)
    with pytest.raises(ImageIncomplete) as lacking:
        store.assemble(digest)
    had = 4 - len(lacking.value.missing)
    assert had > 0
    ballast.unlink()
    copy_image(source, store, digest)
    store.verify(digest)
    with pytest.raises(ImageError, match="no room"):
        store.assemble(digest)  # the chunks have the room that the files need
    assert not any(name.startswith(".") for name in files(small_disk))
    store.verify(digest)


def test_files_that_do_not_fit_leave_what_was_there(small_disk: Path, tmp_path: Path) -> None:
    source = make_store(tmp_path / "source")
    digest = source.put_manifest(Manifest("web", "x86_64", NanosBoot(source.put([CONTENT]))), KEY)
    (small_disk / "file").write_bytes(b"older")
    with pytest.raises(ImageError, match="no room"):
        export_image(source, digest, small_disk / "file")
    assert [path.name for path in small_disk.iterdir()] == ["file"]
    assert (small_disk / "file").read_bytes() == b"older"
    export_image(source, digest, tmp_path / "file")
    store = make_store(small_disk / "images")
    with pytest.raises(ImageError, match="no room"):
        import_image(store, tmp_path / "file")
    assert store.named() == {} and store.manifest(digest) is None
