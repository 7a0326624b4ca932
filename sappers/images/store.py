"""Images by content, in chunks, signed; the same class on the control machine and on members.

    manifests/<digest>         signed manifests; synced
    chunks/<2 hex>/<digest>    what travels, see `images.chunks`; not synced
    blobs/sha256/<digest>      whole files, put together for guests to start from; synced
    names/<name>               digests of the control machine's own images; synced
    lock                       held shared by whoever writes, alone by whoever prunes

Invariant: nothing that is read is believed: see `images.manifest_folder`; chunks and blobs are
hashed, again whenever their file has changed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from sappers.errors import ImageError, ImageIncomplete
from sappers.images.blobs import assemble_blob, cut, in_order, written_bytes
from sappers.images.chunks import ChunkFolder, check_digest, is_digest
from sappers.images.files import (
    UNFINISHED,
    VerifiedFiles,
    entries,
    look,
    refusing,
)
from sappers.images.lock import alone, holding
from sappers.images.manifest_folder import ManifestFolder
from sappers.images.manifests import encode_manifest
from sappers.images.names import NameFolder
from sappers.model.image import CHUNK_BYTES, DIGEST_SHOWN, Blob, Manifest, SignedManifest
from sappers.security.signing import SigningKey

_PRUNE_PATIENCE_SECONDS = 10.0


class FolderImageStore:
    """An image store in one folder; implements `ports.ImageStore`. For any number of threads.

    Args:
        folder: Made when it is first used; no other user may write to it.
        trusted: Asked at every read: public keys (64 hex digits) whose images may be used.
        spare_bytes: Of the disk, which chunks and files of images never take: a member's log is
            on the same disk, and without it nobody could even remove an image.
    """

    def __init__(
        self, folder: Path, trusted: Callable[[], Collection[str]], spare_bytes: int = 0
    ) -> None:
        self._folder = folder
        self._spare_bytes = spare_bytes
        self._manifests = ManifestFolder(folder / "manifests", folder, trusted)
        self._blobs = folder / "blobs" / "sha256"
        self._names = folder / "names"
        self._called = NameFolder(self._names, folder)
        self._chunks = ChunkFolder(folder / "chunks", folder)
        self._whole = VerifiedFiles()
        self._assembling = threading.Lock()

    def holding(self) -> contextlib.AbstractContextManager[None]:
        """A block in which nothing is pruned: around a build, from its first `put` to its end."""
        return holding(self._folder)

    # Manifests

    def signed(self, digest: str) -> SignedManifest | None:
        """The signed manifest; None when it is not here, is damaged, or nobody trusted signed it.

        Raises:
            ImageError: That is no digest.
        """
        found = self._manifests.find_trusted(digest)
        return found.signed if found else None

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest; None when it is not here, is damaged, or nobody trusted signed it.

        Raises:
            ImageError: That is no digest.
        """
        found = self._manifests.find_trusted(digest)
        return found.manifest if found else None

    def put_signed(self, signed: SignedManifest) -> str:
        """Store a manifest; the image's digest. Signatures of one that is here are joined.

        Raises:
            ImageUntrusted: No trusted key signed it.
            ImageError: It makes no sense; the disk is full.
        """
        return self._manifests.put(signed)

    def check_signed(self, signed: SignedManifest) -> Manifest:
        """What is signed, when `put_signed` would take it; raises as that."""
        return self._manifests.check(signed)

    def put_manifest(self, manifest: Manifest, signing_key: SigningKey) -> str:
        """Sign and store the manifest of an image made here, and give it its name; its digest.

        Raises:
            ImageIncomplete: Chunks of it are not here (somebody removed them meanwhile).
            ImageUntrusted: The key is not among those that this store trusts.
            ImageError: It makes no sense; the disk is full.
        """
        content = encode_manifest(manifest)
        with self.holding():
            missing = tuple(one for one in manifest.chunks() if not self.has_chunk(one))
            if missing:
                raise ImageIncomplete(
                    f"{len(missing)} chunks of {manifest.name} are gone already",
                    missing=missing,
                    hint="build it again",
                )
            digest = self.put_signed(SignedManifest(content, (signing_key.sign(content),)))
            self.give_name(manifest.name, digest)
        return digest

    def missing_chunks(self, digest: str) -> tuple[str, ...]:
        """Chunks of an image that are not here, in the order of first use; nothing is read.

        Raises:
            ImageUntrusted: Nobody trusted signed it.
            ImageError: There is no manifest.
        """
        manifest = self._manifests.require(digest)
        return tuple(chunk for chunk in manifest.chunks() if not self.has_chunk(chunk))

    # Chunks

    def has_chunk(self, chunk: str) -> bool:
        """Whether a chunk is here; one that a crash has torn counts until it is read."""
        return self._chunks.has(chunk)

    def read_chunk(self, chunk: str) -> bytes | None:
        """A chunk as it travels, a zstd frame; None when it is not here or was damaged.

        Raises:
            ImageError: That is no digest; the disk cannot be read.
        """
        return self._chunks.read(chunk)

    def read_unchecked(self, chunk: str) -> bytes | None:
        """As `read_chunk`, but not hashed: for whom the receiver's check is enough.

        Raises:
            ImageError: That is no digest; the disk cannot be read.
        """
        return self._chunks.read_unchecked(chunk)

    def write_chunk(self, chunk: str, frame: bytes) -> None:
        """Store a chunk as somebody sent it.

        Raises:
            ImageError: The frame is not of this chunk; the disk is full.
        """
        with self.holding():
            self._require_room(len(frame))
            self._chunks.write(chunk, frame)

    # Files

    def put(self, content: Iterable[bytes]) -> Blob:
        """Store new content in chunks.

        Raises:
            ImageError: The disk is full.
        """
        with self.holding():
            return cut(content, self._chunks)

    def put_file(self, path: Path) -> Blob:
        """Store a file's content in chunks.

        Raises:
            OSError: It cannot be read.
            ImageError: The disk is full.
        """
        with path.open("rb", buffering=0) as file:
            return self.put(iter(lambda: file.read(CHUNK_BYTES), b""))

    def blob_path(self, digest: str) -> Path:
        """Where a file of an image is once it is assembled. It is shared: link it, change nothing.

        Raises:
            ImageError: That is no digest.
        """
        return self._blobs / check_digest(digest)

    def assemble(self, digest: str) -> Manifest:
        """Make every file of an image whole and verified, from its chunks where need be.

        Raises:
            ImageIncomplete: Chunks are missing, or were damaged and are dropped.
            ImageUntrusted: Nobody trusted signed it.
            ImageError: There is no manifest; the disk is full.
        """
        manifest = self._manifests.require(digest)
        files = [blob for blob in manifest.blobs() if not self._is_whole(blob)]
        missing = [chunk for blob in files for chunk in blob.chunks if not self.has_chunk(chunk)]
        if missing:
            raise _incomplete(manifest.name, missing)
        with self.holding(), self._assembling:
            for blob in files:
                try:
                    self._make_whole(blob)
                except ImageIncomplete as error:
                    missing += error.missing
        if missing:
            raise _incomplete(manifest.name, missing)
        return manifest

    def recheck(self, digest: str, wanted: Collection[str] | None = None) -> tuple[str, ...]:
        """Hash the files of an image that are put together, though this process may have before.

        Args:
            digest: The image's.
            wanted: Digests of those of its files that are meant; all if not given.

        Returns:
            Digests of those that did not match and are removed: `assemble` makes them anew.

        Raises:
            ImageUntrusted: Nobody trusted signed it.
            ImageError: There is no manifest, or a damaged file cannot be removed.
        """
        manifest = self._manifests.require(digest)
        meant = [one for one in manifest.blobs() if wanted is None or one.digest in wanted]
        there = [blob for blob in meant if self._exists(blob)]
        return tuple(blob.digest for blob in there if not self._is_whole(blob, again=True))

    def verify(self, digest: str) -> None:
        """Read all that is here of an image again; what is damaged is removed.

        Raises:
            ImageIncomplete: Chunks are missing, or were damaged and are dropped.
            ImageUntrusted: Nobody trusted signed it.
            ImageError: There is no manifest; a file was damaged and is removed.
        """
        manifest = self._manifests.require(digest)
        chunks = manifest.chunks()
        contents = in_order(lambda chunk: self._chunks.content(chunk) is not None, chunks)
        missing = [chunk for chunk, whole in zip(chunks, contents, strict=True) if not whole]
        damaged = self.recheck(digest)
        if missing:
            raise _incomplete(manifest.name, missing)
        if damaged:
            files = ", ".join(one[:DIGEST_SHOWN] for one in damaged)
            raise ImageError(
                f"image {manifest.name}: {files} was damaged and is removed",
                hint="its chunks are whole: it is put together again when it is needed",
            )

    # Names

    def named(self) -> dict[str, str]:
        """Digests by name, of images built or imported here."""
        return self._called.all()

    def give_name(self, name: str, digest: str) -> None:
        """Call an image so; another one of that name loses it.

        Raises:
            ImageError: Images are not called so; the disk is full.
        """
        with self.holding():
            self._called.give(name, digest)

    def remove_name(self, name: str) -> None:
        """Take a name from its image, which the next `prune` then removes.

        Raises:
            ImageError: No image is called so.
        """
        self._called.remove(name)

    # Garbage

    def prune(self, keep: Collection[str], *, spare_seconds: float = 0.0) -> tuple[str, ...]:
        """Remove what no image in `keep`, and none with a name, needs; digests of all removed.

        Never while somebody writes (`holding`), so that what is unfinished then is abandoned and
        goes too. A file that a guest has linked stays.

        Args:
            keep: Digests of manifests.
            spare_seconds: Images whose manifest is younger stay.

        Raises:
            ImageError: Others have been writing for too long; the disk refuses.
        """
        with alone(self._folder, _PRUNE_PATIENCE_SECONDS), refusing(self._folder):
            removed = list(self.unneeded(keep, spare_seconds=spare_seconds))
            for path in removed:
                path.unlink(missing_ok=True)
                self._whole.forget(path)
            return tuple(dict.fromkeys(path.name for path in removed if is_digest(path.name)))

    def unneeded(self, keep: Collection[str], *, spare_seconds: float = 0.0) -> dict[Path, int]:
        """What `prune` would remove now, and how many bytes each file takes."""
        images = {*keep, *self.named().values(), *self._manifests.younger_than(spare_seconds)}
        needed: set[str] = set(images)
        for digest in images:
            found = self._manifests.look_up(digest) if is_digest(digest) else None
            for blob in found.manifest.blobs() if found else ():
                needed |= {blob.digest, *blob.chunks}
        sizes: dict[Path, int] = {}
        with refusing(self._folder):
            for path in self._files():
                if path.name not in needed and not path.is_dir():
                    with contextlib.suppress(FileNotFoundError):  # its writer has just ended
                        sizes[path] = path.lstat().st_blocks * 512
        return sizes

    def _files(self) -> Iterator[Path]:
        """All that pruning may take."""
        yield from self._chunks.files()
        yield from self._manifests.files()
        for folder in (self._blobs, self._names):
            for path in entries(folder, self._folder):
                if folder == self._blobs and _is_lent(path):
                    continue
                if folder != self._names or path.name.startswith(UNFINISHED):
                    yield path

    # Inside

    def _exists(self, blob: Blob) -> bool:
        return look(self.blob_path(blob.digest)) is not None

    def _is_whole(self, blob: Blob, *, again: bool = False) -> bool:
        """Whether a file is here and has its digest; a damaged one is removed."""
        path = self.blob_path(blob.digest)
        if not again and self._whole.knows(path):
            return True
        with refusing(self._folder):
            return self._whole.check(path, blob.digest)

    def _make_whole(self, blob: Blob) -> None:
        if not self._is_whole(blob):
            path = self.blob_path(blob.digest)
            self._require_room(written_bytes(blob))
            assemble_blob(blob, self._chunks, path, self._folder)
            self._whole.add(path, look(path))

    def _require_room(self, count: int) -> None:
        if not self._spare_bytes:
            return
        with refusing(self._folder):
            if shutil.disk_usage(self._folder).free - count < self._spare_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))


def _is_lent(path: Path) -> bool:
    """Whether a guest has a link to a file."""
    try:
        return path.lstat().st_nlink > 1
    except FileNotFoundError:
        return False


def _incomplete(name: str, missing: Iterable[str]) -> ImageIncomplete:
    chunks = tuple(dict.fromkeys(missing))
    return ImageIncomplete(
        f"{len(chunks)} chunks of image {name} are missing or were damaged", missing=chunks
    )
