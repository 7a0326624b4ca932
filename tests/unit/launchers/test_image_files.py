"""What guests boot from was hashed for them, whatever a stat says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sappers.errors import ImageIncomplete, LaunchError
from sappers.images.store import FolderImageStore
from sappers.launchers.command import INITRD, KERNEL
from sappers.launchers.image_files import verified_files
from tests.image_stores import damage_unseen, make_store, put_image


@pytest.fixture
def store(tmp_path: Path) -> FolderImageStore:
    return make_store(tmp_path / "images")


def test_a_file_that_changed_unseen_is_made_anew(store: FolderImageStore) -> None:
    image = put_image(store, kernel=b"a kernel")
    damage_unseen(verified_files(store, image)[KERNEL])
    found = verified_files(store, image)
    assert found.keys() == {KERNEL, INITRD}
    assert found[KERNEL].read_bytes() == b"a kernel"


def test_without_its_chunks_nothing_starts_and_the_file_is_named(
    store: FolderImageStore, tmp_path: Path
) -> None:
    image = put_image(store)
    kernel = verified_files(store, image)[KERNEL]
    damage_unseen(kernel)
    shutil.rmtree(tmp_path / "images" / "chunks")
    with pytest.raises(LaunchError) as refused:
        verified_files(store, image)
    assert str(kernel) in refused.value.message
    assert "push the image again" in refused.value.message
    with pytest.raises(ImageIncomplete):  # from now on it is fetched
        verified_files(store, image)


def test_a_clone_is_not_held_up(store: FolderImageStore) -> None:
    image = put_image(store)
    kernel = verified_files(store, image)[KERNEL]
    damage_unseen(kernel)
    verified_files(store, image, clone=True)
    assert kernel.read_bytes() != b"kernel"  # it was not read, or it would have been replaced
