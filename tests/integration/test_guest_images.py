"""Building images for real: reproducible, cached, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images.definition import load_definition
from sappers.images.microvm import MicrovmBuilder
from sappers.images.store import FolderImageStore
from tests.integration.guests import PROJECT, image_cache

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("lz4"), reason="needs lz4"),
    pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt"),
]


def build(folder: Path, cache: Path, name: str = "hello") -> tuple[str, bool]:
    definitions = PROJECT / "unikernels"
    builder = MicrovmBuilder(
        FolderImageStore(folder), cache, PROJECT / "requirements" / "agent.lock"
    )
    return builder.build(
        name, load_definition(definitions, name), definitions / name, lambda _: None
    )


def test_the_same_inputs_give_the_same_image(tmp_path):
    cached, _ = build(tmp_path / "one", image_cache())
    # Packages are what apt verified; everything made from them is made again.
    shutil.copytree(image_cache() / "packages", tmp_path / "cache" / "packages")
    again, built = build(tmp_path / "two", tmp_path / "cache")
    assert built
    assert again == cached
    assert build(tmp_path / "two", tmp_path / "cache") == (again, False)


def test_a_store_that_lost_a_blob_gets_it_again(tmp_path):
    digest, _ = build(tmp_path / "images", image_cache())
    store = FolderImageStore(tmp_path / "images")
    store.blob_path(store.manifest(digest).initrd.digest).unlink()
    assert build(tmp_path / "images", image_cache()) == (digest, True)
    store.verify(digest)


@pytest.mark.parametrize("what", ["images", "cache"])
def test_a_full_disk_is_said_and_leaves_nothing_half_done(tmp_path, what):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20M", "none", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs root to mount a small disk")
    try:
        images = small / "images" if what == "images" else tmp_path / "images"
        cache = small / "cache" if what == "cache" else image_cache()
        with pytest.raises(ImageError) as caught:
            build(images, cache)
        assert "room" in caught.value.message or "space" in caught.value.message.lower()
        store = FolderImageStore(images)
        assert store.named() == {}
        left = [path.name for path in images.rglob("*") if path.is_file()]
        assert not [name for name in left if name.startswith(".new-")]
    finally:
        subprocess.run(["umount", str(small)], check=True)
