"""Files cut into chunks, and put together from them. Hashing and zstd run outside of Python's
lock, so a few threads share the work.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sappers.errors import ImageError, ImageIncomplete
from sappers.images.chunks import ChunkFolder, digest_of
from sappers.images.files import write_at, writing
from sappers.model.image import CHUNK_BYTES, Blob

_THREADS = min(4, os.cpu_count() or 1)
_ZEROS = digest_of(bytes(CHUNK_BYTES))

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def cut(content: Iterable[bytes], chunks: ChunkFolder) -> Blob:
    """Store content, which comes in pieces of any length, in chunks.

    Raises:
        ImageError: The disk is full.
    """
    whole, size = hashlib.sha256(), 0

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for piece in _even(content):
            whole.update(piece)
            size += len(piece)
            yield piece

    found = tuple(in_order(chunks.put, pieces()))
    return Blob(whole.hexdigest(), size, found)


def assemble_blob(blob: Blob, chunks: ChunkFolder, target: Path, root: Path) -> None:
    """Put a file together at `target`, whole and hashed, or not at all.

    Raises:
        ImageIncomplete: Chunks are missing or were damaged and are dropped; names all of them.
        ImageError: The manifest contradicts itself; the disk is full.
    """
    missing: list[str] = []
    whole, size = hashlib.sha256(), 0
    with writing(target, root, durable=True) as file:
        contents = in_order(chunks.content, blob.chunks)
        for chunk, content in zip(blob.chunks, contents, strict=True):
            if content is None:
                missing.append(chunk)
                continue
            whole.update(content)
            if chunk == _ZEROS:
                os.ftruncate(file.fileno(), size + len(content))  # a hole
            else:
                write_at(file.fileno(), content, size)
            size += len(content)
        if missing:
            raise ImageIncomplete(
                f"{len(missing)} chunks of blob {blob.digest[:12]} are missing or damaged",
                missing=tuple(dict.fromkeys(missing)),
            )
        if (whole.hexdigest(), size) != (blob.digest, blob.size_bytes):
            raise ImageError(f"the chunks of blob {blob.digest[:12]} make another file")


def written_bytes(blob: Blob) -> int:
    """About how much of the disk a file takes: what is zero throughout takes none."""
    return CHUNK_BYTES * sum(chunk != _ZEROS for chunk in blob.chunks)


def in_order(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """As `map`, by a few threads that are never more than a few items ahead."""
    with ThreadPoolExecutor(_THREADS, "images") as threads:
        ahead: deque[Future[_Out]] = deque()
        try:
            for item in items:
                ahead.append(threads.submit(work, item))
                if len(ahead) > 2 * _THREADS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _even(content: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `CHUNK_BYTES`, the last one shorter."""
    rest = bytearray()
    for piece in content:
        if not rest and len(piece) == CHUNK_BYTES:
            yield bytes(piece)
            continue
        rest += piece
        while len(rest) >= CHUNK_BYTES:
            yield bytes(rest[:CHUNK_BYTES])
            del rest[:CHUNK_BYTES]
    if rest:
        yield bytes(rest)
