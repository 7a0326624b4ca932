"""The image store: what stands under a digest has that digest, whatever happens."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images.store import FolderImageStore, encode_manifest
from sappers.model.image import Blob, Manifest


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest_of(store: FolderImageStore, name: str = "web", kernel: bytes = b"kernel") -> Manifest:
    return Manifest(
        name=name,
        kind="microvm",
        architecture="x86_64",
        kernel=store.put(iter([kernel])),
        initrd=store.put(iter([b"init", b"rd"])),
    )


@pytest.fixture
def store(tmp_path: Path) -> FolderImageStore:
    return FolderImageStore(tmp_path / "images")


def files(store: FolderImageStore) -> set[str]:
    return {path.name for path in store.blob_path("0" * 64).parent.iterdir()}


def test_an_image_is_found_by_name_and_whole(store: FolderImageStore) -> None:
    manifest = manifest_of(store)
    digest = store.put_manifest(manifest)
    assert store.named() == {"web": digest}
    assert store.manifest(digest) == manifest
    assert store.missing(digest) == ()
    store.verify(digest)


def test_equal_manifests_have_equal_digests(tmp_path: Path) -> None:
    one, two = (FolderImageStore(tmp_path / name) for name in "ab")
    assert one.put_manifest(manifest_of(one)) == two.put_manifest(manifest_of(two))


async def test_an_image_travels_blob_by_blob(store: FolderImageStore, tmp_path: Path) -> None:
    manifest = manifest_of(store)
    digest = store.put_manifest(manifest)
    other = FolderImageStore(tmp_path / "other")
    assert other.missing(digest) == (digest,)
    await other.add(digest, chunks(encode_manifest(manifest)))
    assert other.missing(digest) == (manifest.kernel.digest, manifest.initrd.digest)
    await other.add(manifest.kernel.digest, chunks(b"ker", b"nel"))
    await other.add(manifest.initrd.digest, chunks(b"initrd"))
    other.verify(digest)


async def test_wrong_content_is_refused_and_leaves_nothing(store: FolderImageStore) -> None:
    with pytest.raises(ImageError, match="does not match its digest"):
        await store.add(digest_of(b"right"), chunks(b"wrong"))
    assert files(store) == set()


async def test_a_sender_that_fails_leaves_nothing(store: FolderImageStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError("gone")

    with pytest.raises((ImageError, ConnectionResetError)):
        await store.add(digest_of(b"half a blob"), broken())
    assert files(store) == set()


def test_damage_is_seen(store: FolderImageStore) -> None:
    manifest = manifest_of(store)
    digest = store.put_manifest(manifest)
    path = store.blob_path(manifest.kernel.digest)
    path.chmod(0o600)
    path.write_bytes(b"kernal")
    with pytest.raises(ImageError, match="is damaged"):
        store.verify(digest)
    path.write_bytes(b"short")
    assert store.missing(digest) == (manifest.kernel.digest,)
    path.unlink()
    with pytest.raises(ImageError, match="is missing"):
        store.verify(digest)


def test_damaged_blobs_are_dropped_so_that_they_are_fetched_again(store: FolderImageStore) -> None:
    manifest = manifest_of(store)
    digest = store.put_manifest(manifest)
    assert store.drop_damaged(digest) == ()
    path = store.blob_path(manifest.kernel.digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[::-1])
    assert store.missing(digest) == ()
    assert store.drop_damaged(digest) == (manifest.kernel.digest,)
    assert store.missing(digest) == (manifest.kernel.digest,)
    assert store.drop_damaged("0" * 64) == ()


def test_a_blob_that_is_no_manifest_is_none(store: FolderImageStore) -> None:
    assert store.manifest(store.put(iter([b"garbage \xff"])).digest) is None
    assert store.manifest(store.put(iter([b'{"kind": "x"}'])).digest) is None
    path = store.blob_path(store.put_manifest(manifest_of(store)))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"web", b"wob"))
    assert store.manifest(path.name) is None


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_only_digests_are_paths(store: FolderImageStore, digest: str) -> None:
    with pytest.raises(ImageError, match="no digest"):
        store.blob_path(digest)


def test_pruning_keeps_what_is_needed_and_what_is_being_written(store: FolderImageStore) -> None:
    kept, used, unused = (manifest_of(store, kernel=kernel) for kernel in (b"a", b"b", b"c"))
    used_digest = store.put_manifest(used)
    unused_digest = store.put_manifest(unused)
    store.put_manifest(kept)  # takes the name
    writing = store.blob_path("0" * 64).parent / ".new-abc"
    writing.touch()
    abandoned = writing.with_name(".new-old")
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    assert set(store.prune([used_digest])) == {unused_digest, unused.kernel.digest}
    assert writing.exists() and not abandoned.exists()
    store.verify(used_digest)
    store.verify(store.named()["web"])


def test_it_is_private(store: FolderImageStore) -> None:
    store.put_manifest(manifest_of(store))
    folder = store.blob_path("0" * 64).parents[2]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_blobs_cannot_be_changed_by_whom_they_are_lent_to(store: FolderImageStore) -> None:
    blob: Blob = store.put(iter([b"x"]))
    assert store.blob_path(blob.digest).stat().st_mode & 0o777 == 0o444
