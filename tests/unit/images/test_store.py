"""The image store: what comes out is whole, has its digest and is signed, whatever happens."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sappers.errors import ImageError, ImageIncomplete, ImageUntrusted
from sappers.images import files as images_files
from sappers.images.chunks import digest_of, pack
from sappers.images.files import UNFINISHED, VerifiedFiles, hashed, refusing
from sappers.images.manifests import decode_manifest, decode_signed, encode_manifest
from sappers.images.store import FolderImageStore
from sappers.model.image import (
    CHUNK_BYTES,
    ApplianceBoot,
    Blob,
    Manifest,
    MicrovmBoot,
    NanosBoot,
    SignedManifest,
)
from sappers.security.signing import SIGNATURES_MAX, SigningKey
from tests.image_stores import (
    KEY,
    STRANGER,
    copy_image,
    damage,
    damage_unseen,
    files,
    make_store,
    put_image,
)

OTHER, *KEYS = (SigningKey(Ed25519PrivateKey.generate()) for _ in range(SIGNATURES_MAX + 1))
LARGE = os.urandom(2 * CHUNK_BYTES + 5) + bytes(CHUNK_BYTES)


@pytest.fixture
def store(tmp_path: Path) -> FolderImageStore:
    return make_store(tmp_path / "images")


@pytest.fixture
def other(tmp_path: Path) -> FolderImageStore:
    return make_store(tmp_path / "other")


def manifest_of(store: FolderImageStore, digest: str) -> Manifest:
    manifest = store.manifest(digest)
    assert manifest is not None
    return manifest


def content_of(store: FolderImageStore, blob: Blob) -> bytes:
    return store.blob_path(blob.digest).read_bytes()


# Going in and coming out


def test_an_image_is_found_by_name_and_whole(store: FolderImageStore) -> None:
    digest = put_image(store, initrd=LARGE)
    assert store.named() == {"web": digest}
    assert store.missing_chunks(digest) == ()
    store.verify(digest)
    manifest = store.assemble(digest)
    assert manifest == store.manifest(digest)
    assert [content_of(store, blob) for blob in manifest.blobs()] == [b"kernel", LARGE]


def test_equal_images_have_equal_digests(store: FolderImageStore, other: FolderImageStore) -> None:
    assert put_image(store) == put_image(other)
    assert put_image(store) != put_image(other, kernel=b"kernal")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=30,
)
@given(
    pieces=st.lists(st.binary(max_size=3000), max_size=5),
    repeat=st.sampled_from([1, 50, 700]),
)
def test_bytes_that_travel_chunk_by_chunk_arrive(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], repeat: int
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    store, other = make_store(folder / "a"), make_store(folder / "b")
    boot = NanosBoot(store.put(pieces * repeat))
    digest = store.put_manifest(Manifest("web", "x86_64", boot), KEY)
    copy_image(store, other, digest)
    assert content_of(other, other.assemble(digest).blobs()[0]) == b"".join(pieces * repeat)
    other.verify(digest)


def test_a_file_is_cut_where_its_digest_does_not_depend_on_the_pieces(
    store: FolderImageStore, tmp_path: Path
) -> None:
    blob = store.put([LARGE])
    assert store.put(LARGE[at : at + 70_001] for at in range(0, len(LARGE), 70_001)) == blob
    (tmp_path / "file").write_bytes(LARGE)
    assert store.put_file(tmp_path / "file") == blob
    assert len(blob.chunks) == 4


def test_one_changed_byte_changes_one_chunk(
    store: FolderImageStore, other: FolderImageStore
) -> None:
    first = put_image(store, initrd=LARGE)
    copy_image(store, other, first)
    second = put_image(store, initrd=b"X" + LARGE[1:])
    signed = store.signed(second)
    assert signed is not None
    other.put_signed(signed)
    assert len(other.missing_chunks(second)) == 1


def test_zeros_take_no_room(store: FolderImageStore) -> None:
    blob = store.put([bytes(64 * CHUNK_BYTES), b"end"])
    digest = store.put_manifest(Manifest("disk", "x86_64", ApplianceBoot(blob)), KEY)
    store.assemble(digest)
    found = store.blob_path(blob.digest).stat()
    assert found.st_size == 64 * CHUNK_BYTES + 3
    assert found.st_blocks * 512 < CHUNK_BYTES
    store.verify(digest)


def test_an_empty_file_is_a_file(store: FolderImageStore) -> None:
    digest = put_image(store, initrd=b"")
    assert content_of(store, store.assemble(digest).blobs()[1]) == b""


# Trust


def test_what_no_trusted_key_signed_is_refused_and_leaves_nothing(
    store: FolderImageStore, tmp_path: Path
) -> None:
    stranger = make_store(tmp_path / "stranger", lambda: (STRANGER.public,))
    signed = stranger.signed(put_image(stranger, key=STRANGER))
    assert signed is not None
    with pytest.raises(ImageUntrusted) as refused:
        store.put_signed(signed)
    assert refused.value.keys == (STRANGER.public,)
    assert f"sappers-deploy image trust add {STRANGER.public}" in (refused.value.hint or "")
    with pytest.raises(ImageUntrusted, match="not signed"):
        store.put_signed(SignedManifest(signed.manifest, ()))
    assert files(tmp_path / "images") == set()


def test_a_key_that_is_not_trusted_signs_nothing_here(store: FolderImageStore) -> None:
    with pytest.raises(ImageUntrusted):
        put_image(store, key=STRANGER)
    assert store.named() == {}


def test_trust_is_asked_for_at_every_read(tmp_path: Path) -> None:
    trusted = {KEY.public}
    store = make_store(tmp_path / "images", lambda: trusted)
    digest = put_image(store)
    store.assemble(digest)
    trusted.clear()
    assert store.signed(digest) is None
    assert store.manifest(digest) is None
    for use in (store.assemble, store.verify, store.missing_chunks):
        with pytest.raises(ImageUntrusted):
            use(digest)
    trusted.add(KEY.public)
    store.assemble(digest)


@given(
    strangers=st.integers(1, SIGNATURES_MAX),
    here=st.integers(0, SIGNATURES_MAX - 1),
)
@settings(max_examples=20, deadline=None)
def test_strangers_do_not_take_the_place_of_a_trusted_key(strangers: int, here: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), lambda: (KEY.public, OTHER.public))
        digest = put_image(store, key=KEY)
        content = store.signed(digest).manifest
        for keys in (KEYS[:here], KEYS[-strangers:]):
            signatures = (OTHER.sign(content), *(key.sign(content) for key in keys))
            store.put_signed(SignedManifest(content, signatures[:SIGNATURES_MAX]))
        found = store.signed(digest).signatures
        assert {KEY.public, OTHER.public} <= {one.key for one in found}
        assert len(found) <= SIGNATURES_MAX


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_mib", -5),
        ("memory_mib", 1 << 40),
        ("guest_port", 0),
        ("guest_port", 70_000),
        ("health_interval_seconds", 0.0),
        ("health_interval_seconds", -1.0),
        ("health_interval_seconds", 1e300),
        ("architecture", "sparc"),
        ("architecture", "\x1b[2J"),
    ],
)
def test_a_manifest_that_no_guest_can_follow_is_refused(
    store: FolderImageStore, field: str, value: object
) -> None:
    manifest = Manifest("web", "x86_64", NanosBoot(store.put([b"a disk"])))
    with pytest.raises(ImageError, match=r"no manifest|is for") as caught:
        store.put_manifest(msgspec.structs.replace(manifest, **{field: value}), KEY)
    assert caught.value.message.isprintable()


def test_signatures_of_two_keys_are_joined(tmp_path: Path) -> None:
    trusted = {KEY.public, STRANGER.public}
    store = make_store(tmp_path / "images", lambda: trusted)
    assert put_image(store) == (digest := put_image(store, key=STRANGER))
    for one in (KEY, STRANGER):
        trusted.clear()
        trusted.add(one.public)
        assert store.manifest(digest) is not None


@pytest.mark.parametrize("at", [20, 60, 150])
def test_a_changed_manifest_is_none(store: FolderImageStore, tmp_path: Path, at: int) -> None:
    digest = put_image(store)
    assert store.manifest(digest) is not None
    damage(tmp_path / "images" / "manifests" / digest, at=at)
    assert store.signed(digest) is None
    with pytest.raises(ImageError, match="not here, or its manifest is damaged"):
        store.assemble(digest)
    assert put_image(store) == digest  # and building again repairs it
    assert store.signed(digest) is not None


def test_a_manifest_under_another_digest_is_none(store: FolderImageStore, tmp_path: Path) -> None:
    manifests = tmp_path / "images" / "manifests"
    one, two = put_image(store), put_image(store, kernel=b"other")
    (manifests / one).unlink()
    (manifests / two).rename(manifests / one)
    assert store.manifest(one) is None


def blob(digest: str = "0" * 64, size: int = 1, chunks: tuple[str, ...] = ("1" * 64,)) -> Blob:
    return Blob(digest, size, chunks)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"garbage \xff",
        b"{}",
        encode_manifest(Manifest("../web", "x86_64", NanosBoot(blob()))),
        encode_manifest(Manifest("", "x86_64", NanosBoot(blob()))),
        encode_manifest(Manifest(".new-x", "x86_64", NanosBoot(blob()))),
        encode_manifest(Manifest("Web", "x86_64", NanosBoot(blob()))),
        encode_manifest(Manifest("web\n", "x86_64", NanosBoot(blob()))),
        encode_manifest(Manifest("web", "x86_64", NanosBoot(blob("../../x")))),
        encode_manifest(Manifest("web", "x86_64", NanosBoot(blob("A" * 64)))),
        encode_manifest(Manifest("web", "x86_64", NanosBoot(blob(chunks=("../x",))))),
        encode_manifest(Manifest("web", "x86_64", NanosBoot(blob(size=-1)))),
        encode_manifest(Manifest("web", "x86_64", NanosBoot(blob(size=CHUNK_BYTES + 1)))),
        encode_manifest(Manifest("web", "x86_64", NanosBoot(blob(size=0)))),
        encode_manifest(Manifest("web", "x86_64", NanosBoot(blob(size=1 << 60)))),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_though_signed(
    store: FolderImageStore, tmp_path: Path, manifest: bytes
) -> None:
    with pytest.raises(ImageError):
        store.put_signed(SignedManifest(manifest, (KEY.sign(manifest),)))
    assert files(tmp_path / "images") == set()


def test_chunks_that_make_another_file_are_refused(store: FolderImageStore, tmp_path: Path) -> None:
    true = store.put([b"kernel"])
    manifest = Manifest("web", "x86_64", NanosBoot(Blob("0" * 64, 6, true.chunks)))
    digest = store.put_manifest(manifest, KEY)
    with pytest.raises(ImageError, match="make another file"):
        store.assemble(digest)
    assert not store.blob_path("0" * 64).exists()
    assert list(store.blob_path("0" * 64).parent.iterdir()) == []


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "é" * 64])
def test_only_digests_are_paths(store: FolderImageStore, digest: str) -> None:
    for use in (
        store.blob_path,
        store.signed,
        store.manifest,
        store.missing_chunks,
        store.assemble,
        store.verify,
        store.has_chunk,
        store.read_chunk,
    ):
        with pytest.raises(ImageError, match="no digest"):
            use(digest)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".new-x", "Web", "a\n", "x" * 64, "a.b"])
def test_only_names_are_names(store: FolderImageStore, name: str) -> None:
    digest = put_image(store)
    with pytest.raises(ImageError, match="no name"):
        store.give_name(name, digest)
    with pytest.raises(ImageError, match="no name"):
        store.remove_name(name)
    assert store.named() == {"web": digest}


def test_names_are_moved_and_removed(store: FolderImageStore) -> None:
    put_image(store)
    second = put_image(store, kernel=b"new")
    assert store.named() == {"web": second}
    store.remove_name("web")
    assert store.named() == {}
    assert store.manifest(second) is not None
    with pytest.raises(ImageError, match="no image is called web"):
        store.remove_name("web")


# Damage


def test_missing_chunks_are_named_all_and_nothing_is_assembled(
    store: FolderImageStore, other: FolderImageStore
) -> None:
    digest = put_image(store, initrd=LARGE)
    signed = store.signed(digest)
    assert signed is not None
    with pytest.raises(ImageError, match="is not here"):
        other.missing_chunks(digest)
    other.put_signed(signed)
    chunks = manifest_of(store, digest).chunks()
    assert other.missing_chunks(digest) == chunks
    for use in (other.assemble, other.verify):
        with pytest.raises(ImageIncomplete) as lacking:
            use(digest)
        assert lacking.value.missing == chunks


def test_damaged_chunks_are_dropped_and_fetched_again(
    store: FolderImageStore, other: FolderImageStore, tmp_path: Path
) -> None:
    digest = put_image(store, initrd=LARGE)
    copy_image(store, other, digest)
    chunks = manifest_of(store, digest).chunks()
    broken = (chunks[1], chunks[3])
    for chunk in broken:
        damage(tmp_path / "other" / "chunks" / chunk[:2] / chunk, at=20)
    assert other.missing_chunks(digest) == ()  # nobody has looked
    with pytest.raises(ImageIncomplete) as lacking:
        other.assemble(digest)
    assert lacking.value.missing == broken == other.missing_chunks(digest)
    copy_image(store, other, digest)
    other.assemble(digest)


def test_a_damaged_file_is_put_together_again(store: FolderImageStore) -> None:
    digest = put_image(store, initrd=LARGE)
    initrd = store.assemble(digest).blobs()[1]
    for at in (0, len(LARGE) - 1):
        damage(store.blob_path(initrd.digest), at=at)
        store.assemble(digest)
        assert content_of(store, initrd) == LARGE


def test_verifying_finds_what_a_stat_does_not_show(store: FolderImageStore) -> None:
    digest = put_image(store, initrd=LARGE)
    path = store.blob_path(store.assemble(digest).blobs()[1].digest)
    damage_unseen(path)
    store.assemble(digest)  # as a disk that rots: this process has hashed that file already
    with pytest.raises(ImageError, match="was damaged and is removed"):
        store.verify(digest)
    store.assemble(digest)
    store.verify(digest)


def test_bytes_that_changed_behind_an_unchanged_stat_are_seen_before_a_boot(
    store: FolderImageStore,
) -> None:
    digest = put_image(store, initrd=LARGE)
    initrd = store.assemble(digest).blobs()[1]
    assert store.recheck(digest) == ()
    damage_unseen(store.blob_path(initrd.digest))
    assert store.recheck(digest) == (initrd.digest,)
    assert not store.blob_path(initrd.digest).exists()
    store.assemble(digest)
    assert content_of(store, initrd) == LARGE


def test_a_crowd_that_asks_reads_a_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, waits, go = tmp_path / "kernel", threading.Semaphore(0), threading.Event()
    path.write_bytes(b"kernel")
    reads: list[Path] = []

    def slowly(path: Path) -> tuple[str, tuple[int, ...] | None]:
        reads.append(path)
        go.wait()
        return hashed(path)

    class Answer(Future[bool]):
        def result(self, timeout: float | None = None) -> bool:
            waits.release()
            return super().result(timeout)

    monkeypatch.setattr(images_files, "hashed", slowly)
    monkeypatch.setattr(images_files, "Future", Answer)
    verified = VerifiedFiles()
    with ThreadPoolExecutor(10) as threads:
        answers = [threads.submit(verified.check, path, digest_of(b"kernel")) for _ in range(10)]
        for _ in range(9):
            waits.acquire()
        go.set()
        assert all(one.result() for one in answers)
    assert reads == [path]
    assert verified.check(path, digest_of(b"kernel"))
    assert reads == [path, path]  # an answer is for those who asked meanwhile


def test_another_process_believes_nothing_of_the_first(
    store: FolderImageStore, tmp_path: Path
) -> None:
    digest = put_image(store)
    path = store.blob_path(store.assemble(digest).blobs()[0].digest)
    damage_unseen(path)
    make_store(tmp_path / "images").assemble(digest)
    assert path.read_bytes() == b"kernel"


def test_a_link_to_a_guest_costs_no_second_hash(store: FolderImageStore, tmp_path: Path) -> None:
    digest = put_image(store)
    path = store.blob_path(store.assemble(digest).blobs()[0].digest)
    inode = path.stat().st_ino
    (tmp_path / "kernel").hardlink_to(path)
    damage_unseen(path)
    store.assemble(digest)
    assert path.stat().st_ino == inode  # it was not read, or it would have been replaced


def test_a_link_in_the_place_of_a_file_is_replaced(store: FolderImageStore, tmp_path: Path) -> None:
    digest = put_image(store)
    path = store.blob_path(store.assemble(digest).blobs()[0].digest)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    store.assemble(digest)
    assert not path.is_symlink()
    assert path.read_bytes() == b"kernel"


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
)
@given(data=st.data())
def test_any_flipped_bit_of_a_store_is_seen(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = make_store(folder)
    digest = put_image(store, initrd=b"some text, " * 300)
    contents = [content_of(store, one) for one in store.assemble(digest).blobs()]
    hurt = data.draw(st.sampled_from(sorted(p for p in folder.rglob("*") if _holds_image(p))))
    damage(hurt, at=data.draw(st.integers(0, hurt.stat().st_size - 1)))
    for fresh in (store, make_store(folder)):
        try:
            manifest = fresh.assemble(digest)
        except ImageError:
            continue
        assert [content_of(fresh, one) for one in manifest.blobs()] == contents


def _holds_image(path: Path) -> bool:
    return path.is_file() and path.name != "lock" and path.parent.name != "names"


# Who may touch it


def test_it_is_private_and_its_files_are_read_only(store: FolderImageStore, tmp_path: Path) -> None:
    store.assemble(put_image(store))
    for path in (tmp_path / "images").rglob("*"):
        mode = path.stat().st_mode & 0o777
        assert mode == (0o700 if path.is_dir() else 0o600 if path.name == "lock" else 0o444)
    assert (tmp_path / "images").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("open_to_others", ["", "chunks", "manifests", "blobs"])
def test_a_folder_that_others_may_write_to_is_refused(
    store: FolderImageStore, tmp_path: Path, open_to_others: str
) -> None:
    store.assemble(put_image(store))
    (tmp_path / "images" / open_to_others).chmod(0o777)
    with pytest.raises(ImageError, match="other users may change") as refused:
        store.assemble(put_image(store, kernel=b"another"))
    assert "chmod 700" in (refused.value.hint or "")
    assert isinstance(refused.value.__cause__, OSError)  # nobody who sent something is to blame


def test_a_store_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "images").symlink_to(tmp_path / "disk")
    store = make_store(tmp_path / "images")
    store.assemble(put_image(store))
    assert (tmp_path / "disk" / "manifests").is_dir()


# A full disk


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so(tmp_path: Path, code: int) -> None:
    with pytest.raises(ImageError, match="no room") as refused, refusing(tmp_path):
        raise OSError(code, os.strerror(code))
    assert refused.value.hint == "free some space and repeat"


def test_a_disk_is_never_filled_to_the_last_byte(tmp_path: Path) -> None:
    source = make_store(tmp_path / "source")
    digest = put_image(source)
    folder = tmp_path / "images"
    copy_image(source, make_store(folder), digest)
    careful = FolderImageStore(folder, lambda: (KEY.public,), spare_bytes=1 << 60)
    chunk = manifest_of(source, digest).chunks()[0]
    frame = source.read_chunk(chunk)
    assert frame is not None
    with pytest.raises(ImageError, match="no room") as refused:
        careful.write_chunk(chunk, frame)
    assert isinstance(refused.value.__cause__, OSError)
    with pytest.raises(ImageError, match="no room"):
        careful.assemble(digest)
    assert careful.manifest(digest) is not None  # what says what is wanted is small and may come


def test_a_sender_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), refusing(tmp_path):
        raise ConnectionResetError("gone")


# Many at once


def test_many_threads_fetch_the_same_image(store: FolderImageStore, tmp_path: Path) -> None:
    digest = put_image(store, initrd=LARGE)
    other = make_store(tmp_path / "other")
    begin = threading.Barrier(6)

    def fetch(_: int) -> bytes:
        begin.wait()
        copy_image(store, other, digest)
        return content_of(other, other.assemble(digest).blobs()[1])

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(fetch, range(6))) == {LARGE}
    assert not any(name.startswith(".") for name in files(tmp_path / "other"))


# Garbage


def test_pruning_keeps_what_is_named_or_asked_for(store: FolderImageStore) -> None:
    used, unused = put_image(store, kernel=b"used"), put_image(store, kernel=b"unused")
    shared = manifest_of(store, used).blobs()[1]
    store.assemble(used)
    store.assemble(unused)
    gone = {unused, *manifest_of(store, unused).blobs()[0].chunks}
    gone.add(manifest_of(store, unused).blobs()[0].digest)
    named = put_image(store, kernel=b"named")
    assert set(store.prune([used])) == gone
    assert shared.digest not in gone
    store.verify(used)
    store.verify(named)
    assert store.prune([used]) == ()
    store.remove_name("web")
    assert named in store.prune([used])
    assert used in store.prune([])
    assert files(store.blob_path("0" * 64).parents[2]) == set()


def test_pruning_keeps_images_though_their_key_is_not_trusted_now(tmp_path: Path) -> None:
    trusted = {KEY.public}
    store = make_store(tmp_path / "images", lambda: trusted)
    digest = put_image(store)
    trusted.clear()
    assert store.prune([digest]) == ()
    trusted.add(KEY.public)
    store.verify(digest)


def test_pruning_keeps_what_a_guest_runs_from(store: FolderImageStore, tmp_path: Path) -> None:
    digest = put_image(store)
    kernel, initrd = store.assemble(digest).blobs()
    (tmp_path / "kernel").hardlink_to(store.blob_path(kernel.digest))
    store.remove_name("web")
    store.prune([])
    assert store.blob_path(kernel.digest).exists()
    assert not store.blob_path(initrd.digest).exists()
    (tmp_path / "kernel").unlink()
    assert store.prune([]) == (kernel.digest,)


def test_pruning_keeps_images_that_came_just_now_if_asked(store: FolderImageStore) -> None:
    digest = put_image(store)
    store.remove_name("web")
    assert store.prune([], spare_seconds=60) == ()
    store.verify(digest)
    assert digest in store.prune([])


def test_an_image_that_comes_again_is_as_young_as_a_new_one(store: FolderImageStore) -> None:
    digest = put_image(store)
    store.remove_name("web")
    manifest = store._manifests._folder / digest
    old = time.time() - 1000.0
    os.utime(manifest, (old, old))
    signed = store.signed(digest)
    assert signed is not None
    store.put_signed(signed)  # its chunks, and the word that it is wanted, may yet come
    assert store.prune([], spare_seconds=60) == ()
    assert store.prune([]) != ()


def test_what_pruning_would_remove_is_known_before(store: FolderImageStore) -> None:
    used, unused = put_image(store, kernel=b"used"), put_image(store, kernel=b"unused")
    store.give_name("web", used)
    would = store.unneeded([])
    assert sum(would.values()) > 0
    assert store.manifest(unused) is not None
    assert set(store.prune([])) == {path.name for path in would}
    assert store.unneeded([]) == {}


def test_pruning_sweeps_what_killed_writers_left(store: FolderImageStore, tmp_path: Path) -> None:
    digest = put_image(store)
    store.assemble(digest)
    folders = [path for path in (tmp_path / "images").rglob("*") if path.is_dir()]
    for folder in folders:
        (folder / ".new-abandoned").write_bytes(b"half")
    assert store.prune([]) == ()
    left = list((tmp_path / "images").rglob(".new-*"))
    assert {path.parent.name for path in left} <= {"blobs", "chunks"}  # nobody writes there
    store.verify(digest)


def test_pruning_with_nothing_and_with_odd_things_there(
    store: FolderImageStore, tmp_path: Path
) -> None:
    assert store.prune([]) == ()
    digest = put_image(store)
    (tmp_path / "images" / "chunks" / "ab" / "folder").mkdir(parents=True)
    (tmp_path / "images" / "manifests" / "folder").mkdir()
    (tmp_path / "images" / "names" / "README").write_text("not a digest")
    assert store.prune(["", "no digest", "0" * 64]) == ()
    assert store.named() == {"web": digest}


def test_nothing_is_pruned_during_a_build(store: FolderImageStore, tmp_path: Path) -> None:
    other = make_store(tmp_path / "images")
    pruned = threading.Event()

    def prune() -> tuple[str, ...]:
        removed = other.prune([])
        pruned.set()
        return removed

    with ThreadPoolExecutor(1) as threads:
        with store.holding():
            kernel = store.put([b"kernel"])
            pruning = threads.submit(prune)
            assert not pruned.wait(0.1)
            digest = store.put_manifest(Manifest("web", "x86_64", NanosBoot(kernel)), KEY)
        assert pruning.result(60) == ()
    store.verify(digest)


def test_holds_of_one_thread_may_end_in_any_order(
    store: FolderImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.images.store._PRUNE_PATIENCE_SECONDS", 0.05)
    first, second = store.holding(), store.holding()
    with ThreadPoolExecutor(1) as threads:
        for step in ("begin", "begin another", "end the first"):
            if step == "end the first":
                first.__exit__(None, None, None)
            else:
                (second if "another" in step else first).__enter__()
            with pytest.raises(ImageError, match="being built or fetched"):
                threads.submit(store.prune, []).result()
        second.__exit__(None, None, None)
        threads.submit(store.prune, []).result()


def test_pruning_gets_its_turn_though_writing_never_pauses(store: FolderImageStore) -> None:
    stop = threading.Event()
    frame, chunk = pack(b"wanted by many"), digest_of(b"wanted by many")

    def write() -> None:
        while not stop.is_set():
            with store.holding():
                store.write_chunk(chunk, frame)
                time.sleep(0.02)  # as a larger one takes

    with ThreadPoolExecutor(6) as threads:
        writers = [threads.submit(write) for _ in range(6)]
        try:
            for _ in range(3):
                store.prune([])  # which gives up after a while
        finally:
            stop.set()
    for writer in writers:
        writer.result()


def test_pruning_does_not_wait_for_ever(
    store: FolderImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.images.store._PRUNE_PATIENCE_SECONDS", 0.1)
    with store.holding(), pytest.raises(ImageError, match="being built or fetched"):
        store.prune([])


def test_an_image_whose_chunks_were_pruned_before_it_had_a_manifest_gets_none(
    store: FolderImageStore,
) -> None:
    kernel = store.put([b"kernel"])
    assert store.prune([]) == kernel.chunks
    with pytest.raises(ImageIncomplete) as lacking:
        store.put_manifest(Manifest("web", "x86_64", NanosBoot(kernel)), KEY)
    assert lacking.value.missing == kernel.chunks
    assert store.named() == {}


def test_boots_of_every_kind_travel(store: FolderImageStore, other: FolderImageStore) -> None:
    one = store.put([b"one"])
    for boot in (MicrovmBoot(one, one, one), NanosBoot(one), ApplianceBoot(one)):
        manifest = Manifest("web", "x86_64", boot, stateful=True, guest_port=80)
        digest = store.put_manifest(manifest, KEY)
        copy_image(store, other, digest)
        assert other.assemble(digest) == manifest
        assert msgspec.json.decode(encode_manifest(manifest), type=Manifest) == manifest


@pytest.mark.parametrize("decode", [decode_manifest, decode_signed])
def test_a_manifest_that_nests_without_end_is_none(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(ImageError, match=r"no .*manifest"):
        decode(b'{"x":' + b"[" * 100_000)


@pytest.mark.parametrize(
    "name", ["manifests", "names", "chunks", "chunks/ab", "blobs", "blobs/sha256"]
)
def test_pruning_follows_no_link_out_of_the_store(
    store: FolderImageStore, tmp_path: Path, name: str
) -> None:
    put_image(store)
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere, elsewhere / "ab", elsewhere / "sha256"):
        folder.mkdir()
        (folder / "precious").write_text("mine")
        (folder / UNFINISHED).write_text("mine")
    link = tmp_path / "images" / name
    shutil.rmtree(link, ignore_errors=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere)
    with contextlib.suppress(ImageError):
        store.prune(())
    assert sum(path.is_file() for path in elsewhere.rglob("*")) == 6
