"""Images by content: `blobs/sha256/<digest>`, written beside, synced, renamed.

Invariant: what stands under a digest has that digest. A manifest is a blob like any other; its
digest is the image's. Names are the control machine's own: `names/<name>` holds a digest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from sappers.durable import sync_folder
from sappers.errors import ImageError, SappersError
from sappers.model.image import Blob, Manifest

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
_UNFINISHED = ".new-"
_ABANDONED_SECONDS = 3600.0
_MANIFEST_BYTES_MAX = 1 << 20


def encode_manifest(manifest: Manifest) -> bytes:
    """Canonical JSON: sorted keys, no spaces, so that equal manifests have equal digests."""
    return msgspec.json.encode(manifest, order="sorted")


class FolderImageStore:
    """An image store in one folder; implements `ports.ImageStore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._names = folder / "names"

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest, or None when it is not here or is not what its digest says."""
        path = self.blob_path(digest)
        try:
            if path.stat().st_size > _MANIFEST_BYTES_MAX:
                return None
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(content).hexdigest() != digest:
            return None
        try:
            return msgspec.json.decode(content, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def missing(self, digest: str) -> tuple[str, ...]:
        """Digests still needed to run the image, its manifest's own first."""
        manifest = self.manifest(digest)
        if manifest is None:
            return (digest,)
        return tuple(blob.digest for blob in manifest.blobs() if not self._has(blob))

    def blob_path(self, digest: str) -> Path:
        """Where a blob is, or will be.

        Raises:
            ImageError: That is no digest.
        """
        if not _DIGEST.fullmatch(digest):
            raise ImageError(f"{digest!r} is no digest: 64 hex digits are")
        return self._blobs / digest

    async def add(self, digest: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a blob that comes in pieces.

        Raises:
            ImageError: The content does not match the digest, or the disk is full.
        """
        target = self.blob_path(digest)
        with self._writing() as file:
            found = hashlib.sha256()
            async for chunk in chunks:
                found.update(chunk)
                file.write(chunk)
            if found.hexdigest() != digest:
                raise ImageError(f"content of blob {digest[:12]} does not match its digest")
            _settle(file, target)

    def put(self, content: Iterator[bytes]) -> Blob:
        """Store new content under its digest.

        Raises:
            ImageError: The disk is full.
        """
        with self._writing() as file:
            found, size = hashlib.sha256(), 0
            for chunk in content:
                found.update(chunk)
                size += len(chunk)
                file.write(chunk)
            blob = Blob(found.hexdigest(), size)
            _settle(file, self.blob_path(blob.digest))
        return blob

    def put_file(self, path: Path) -> Blob:
        """Store a copy of a file."""
        with path.open("rb") as file:
            return self.put(iter(lambda: file.read(_CHUNK_BYTES), b""))

    def put_manifest(self, manifest: Manifest) -> str:
        """Store a manifest and give its name to it; the image's digest."""
        digest = self.put(iter([encode_manifest(manifest)])).digest
        with self._writing(self._names) as file:
            file.write(f"{digest}\n".encode())
            _settle(file, self._names / manifest.name)
        return digest

    def named(self) -> dict[str, str]:
        """Digests by name, of images built here."""
        if not self._names.is_dir():
            return {}
        files = (path for path in sorted(self._names.iterdir()) if not path.name.startswith("."))
        return {path.name: path.read_text().strip() for path in files}

    def verify(self, digest: str) -> None:
        """Read the image's blobs again.

        Raises:
            ImageError: Something is missing or does not match.
        """
        manifest = self.manifest(digest)
        if manifest is None:
            raise ImageError(f"image {digest[:12]} is not here, or its manifest is damaged")
        for blob in manifest.blobs():
            found = self._digest_of(blob)
            if found is None:
                raise ImageError(f"image {manifest.name}: blob {blob.digest[:12]} is missing")
            if found != blob.digest:
                raise ImageError(f"image {manifest.name}: blob {blob.digest[:12]} is damaged")

    def drop_damaged(self, digest: str) -> tuple[str, ...]:
        """Read the image's blobs again and remove what does not match; what was removed."""
        manifest = self.manifest(digest)
        damaged = [
            blob.digest
            for blob in (manifest.blobs() if manifest else ())
            if self._digest_of(blob) not in (blob.digest, None)
        ]
        for each in damaged:
            self.blob_path(each).unlink(missing_ok=True)
        return tuple(damaged)

    def _digest_of(self, blob: Blob) -> str | None:
        """What a blob's content says, or None when it is not here."""
        try:
            with self.blob_path(blob.digest).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    def prune(self, in_use: Sequence[str]) -> tuple[str, ...]:
        """Remove what no image in `in_use`, and no name, needs; what was removed."""
        keep: set[str] = set()
        for digest in (*in_use, *self.named().values()):
            manifest = self.manifest(digest)
            keep.add(digest)
            keep.update(blob.digest for blob in (manifest.blobs() if manifest else ()))
        if not self._blobs.is_dir():
            return ()
        unused = [
            path
            for path in sorted(self._blobs.iterdir())
            if (_DIGEST.fullmatch(path.name) or _is_abandoned(path)) and path.name not in keep
        ]
        for path in unused:
            path.unlink(missing_ok=True)
        return tuple(path.name for path in unused if _DIGEST.fullmatch(path.name))

    def _has(self, blob: Blob) -> bool:
        path = self.blob_path(blob.digest)
        return path.exists() and path.stat().st_size == blob.size_bytes

    @contextlib.contextmanager
    def _writing(self, folder: Path | None = None) -> Iterator[BinaryIO]:
        """A file beside its later place; gone again unless it was settled."""
        folder = folder or self._blobs
        try:
            for part in (self._folder, self._folder / "blobs", folder):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=_UNFINISHED, delete=False) as file:
                try:
                    yield file  # type: ignore[misc]
                finally:
                    Path(file.name).unlink(missing_ok=True)
        except SappersError:
            raise  # of whoever brings the content; a member that is out of reach is an OSError too
        except ConnectionError:
            raise  # it is the sender's, not the disk's
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ImageError(
                    f"no room for an image in {self._folder}", hint="free some space and repeat"
                ) from error
            raise ImageError(
                f"cannot write to {self._folder}: {error.strerror or error}"
            ) from error


def _is_abandoned(path: Path) -> bool:
    """Whether it is half a blob whose writer was killed."""
    return (
        path.name.startswith(_UNFINISHED)
        and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
    )


def _settle(file: BinaryIO, target: Path) -> None:
    file.flush()
    os.fchmod(file.fileno(), 0o444)  # guests read it under another name, as other users
    os.fsync(file.fileno())
    Path(file.name).rename(target)
    sync_folder(target.parent)
