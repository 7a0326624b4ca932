"""What guests boot from was hashed for them, whatever a stat says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sappers.errors import ImageError, ImageIncomplete, LaunchError
from sappers.images.store import FolderImageStore
from sappers.launchers.command import INITRD, KERNEL, ROOT
from sappers.launchers.image_files import changed_disks, verified_files
from sappers.launchers.nanos_command import DISK
from sappers.model.image import Manifest, MicrovmBoot, NanosBoot
from tests.image_stores import KEY, damage_unseen, make_store, put_image


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


def test_a_clones_disk_is_hashed_beside_its_start_and_nothing_else_is(
    store: FolderImageStore,
) -> None:
    root = MicrovmBoot(store.put([b"kernel"]), store.put([b"initrd"]), store.put([b"root"]))
    for boot, disk in ((NanosBoot(store.put([b"disk"])), DISK), (root, ROOT)):
        image = store.put_manifest(Manifest("web", "x86_64", boot), KEY)
        files = verified_files(store, image)
        assert changed_disks(store, image) == ()
        for path in files.values():
            damage_unseen(path)

        assert changed_disks(store, image) == (str(files[disk]),)

        assert {name for name, path in files.items() if not path.exists()} == {disk}
        assert verified_files(store, image, clone=True)[disk].read_bytes() == disk.encode()


def test_a_clone_without_a_disk_has_nothing_hashed(store: FolderImageStore) -> None:
    image = put_image(store)
    damage_unseen(verified_files(store, image)[KERNEL])
    assert changed_disks(store, image) == ()


def test_a_clone_is_not_held_up(store: FolderImageStore) -> None:
    image = put_image(store)
    kernel = verified_files(store, image)[KERNEL]
    damage_unseen(kernel)
    verified_files(store, image, clone=True)
    assert kernel.read_bytes() != b"kernel"  # it was not read, or it would have been replaced


def test_a_clone_of_what_nobody_trusts_any_more_does_not_start(tmp_path: Path) -> None:
    trusted = {KEY.public}
    store = make_store(tmp_path / "images", lambda: trusted)
    image = put_image(store)
    assert changed_disks(store, image) == ()
    trusted.clear()
    with pytest.raises(ImageError, match="nobody trusted signed it"):
        changed_disks(store, image)
