"""Chunks: pieces of an image's files, each one zstd frame under the SHA-256 of its content.

Invariant: what `read` returns was seen to be whole, by this process, since the file last changed.
Chunks are not synced: a crash may tear one, and then the next reader drops it and it is fetched
or built again.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import zstandard

from sappers.errors import ChunkDamaged, ImageError
from sappers.images.files import (
    VerifiedFiles,
    entries,
    look,
    read_limited,
    refusing,
    write_at,
    writing,
)
from sappers.model.image import CHUNK_BYTES, FRAME_BYTES_MAX

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{2}")
_LEVEL = 3
_own = threading.local()  # zstandard's objects are for one thread each


def check_digest(digest: str) -> str:
    """The digest itself.

    Raises:
        ImageError: It is none.
    """
    if not is_digest(digest):
        raise ImageError(f"{digest!r} is no digest: 64 hex digits are")
    return digest


def is_digest(text: str) -> bool:
    """Whether it is written as digests are: 64 hex digits, no capitals."""
    return bool(_DIGEST.fullmatch(text))


def digest_of(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def pack(content: bytes) -> bytes:
    """A chunk's frame; what cannot be compressed costs zstd nearly no time."""
    compressor: zstandard.ZstdCompressor | None = getattr(_own, "compressor", None)
    if compressor is None:
        compressor = _own.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    return compressor.compress(content)


def unpack(chunk: str, frame: bytes) -> bytes:
    """A chunk's content, whatever was sent for it.

    Raises:
        ChunkDamaged: The frame is damaged, too large when unpacked, does not say how large it is,
            or is of another chunk.
    """
    refused = ChunkDamaged(f"chunk {chunk[:12]} is damaged", hint="it is fetched or built again")
    if len(frame) > FRAME_BYTES_MAX:
        raise refused
    try:
        # The header is read first: the library reserves as much memory as it promises.
        size = zstandard.get_frame_parameters(frame).content_size
        if not 0 < size <= CHUNK_BYTES:
            raise refused
        decompressor: zstandard.ZstdDecompressor | None = getattr(_own, "decompressor", None)
        if decompressor is None:
            decompressor = _own.decompressor = zstandard.ZstdDecompressor()
        content = decompressor.decompress(
            frame, max_output_size=CHUNK_BYTES, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise refused from error
    if digest_of(content) != chunk:
        raise refused
    return content


class ChunkFolder:
    """Chunks in a folder; any number of threads and processes at once.

    Args:
        folder: `<2 hex digits>/<digest>` are in it.
        root: The store that it belongs to.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = root
        self._verified = VerifiedFiles()

    def path(self, chunk: str) -> Path:
        """Where a chunk is, or will be.

        Raises:
            ImageError: That is no digest.
        """
        return self._folder / check_digest(chunk)[:2] / chunk

    def has(self, chunk: str) -> bool:
        """Whether something stands there; a torn one may."""
        found = look(self.path(chunk))
        return found is not None and found[2] > 0

    def read(self, chunk: str) -> bytes | None:
        """A chunk's frame, or None when it is not here; a damaged one is dropped."""
        found = self._frame(chunk)
        if found is None:
            return None
        frame, seen = found
        if not self._verified.knows(self.path(chunk)) and self._content(chunk, frame, seen) is None:
            return None
        return frame

    def read_unchecked(self, chunk: str) -> bytes | None:
        """What stands there for a chunk, or None when nothing does."""
        found = self._frame(chunk)
        return None if found is None else found[0]

    def content(self, chunk: str) -> bytes | None:
        """A chunk's content, hashed just now; None when it is not here. Drops a damaged one."""
        found = self._frame(chunk)
        return None if found is None else self._content(chunk, *found)

    def write(self, chunk: str, frame: bytes) -> None:
        """Store a frame that somebody sent.

        Raises:
            ImageError: It is not of this chunk; the disk is full.
        """
        path = self.path(chunk)
        unpack(chunk, frame)
        self._store(path, frame)

    def put(self, content: bytes) -> str:
        """Store content of at most `CHUNK_BYTES`; its digest.

        Raises:
            ImageError: The disk is full.
        """
        chunk = digest_of(content)
        path = self.path(chunk)
        # One that another process wrote is read first: it may be torn.
        if not self._verified.knows(path) and self.content(chunk) is None:
            self._store(path, pack(content))
        return chunk

    def drop(self, chunk: str) -> None:
        """Remove a chunk, if it is here."""
        path = self.path(chunk)
        self._verified.forget(path)
        with refusing(self._root):
            path.unlink(missing_ok=True)

    def files(self) -> Iterator[Path]:
        """Everything in the folder, what is unfinished too."""
        for part in entries(self._folder, self._root):
            if _PART.fullmatch(part.name):
                yield from entries(part, self._root)

    def _frame(self, chunk: str) -> tuple[bytes, tuple[int, ...]] | None:
        path = self.path(chunk)
        with refusing(self._root):
            found = read_limited(path, FRAME_BYTES_MAX)
        if found is None and look(path) is not None:
            self.drop(chunk)  # longer than any frame
        return found

    def _content(self, chunk: str, frame: bytes, seen: tuple[int, ...]) -> bytes | None:
        try:
            content = unpack(chunk, frame)
        except ImageError:
            self.drop(chunk)
            return None
        self._verified.add(self.path(chunk), seen)
        return content

    def _store(self, path: Path, frame: bytes) -> None:
        """Put a frame there that was seen to be right, unless such a one stands there."""
        if self._verified.knows(path):
            return
        with writing(path, self._root, durable=False) as file:
            write_at(file.fileno(), frame, 0)
        self._verified.add(path, look(path))
