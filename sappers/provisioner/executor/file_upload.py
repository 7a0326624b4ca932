"""How a file's content travels: in chunks, compressed where the wire is slower than compressing."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 512 * 1024
# Chunks under way that the host has not written yet: enough for a fast wire, little for memory.
CHUNKS_UNDER_WAY_MAX = 16
ZLIB_LEVEL = 1
# The first chunks fill buffers and say nothing about the wire; then every so many are measured.
CHUNKS_UNMEASURED = 12
CHUNKS_MEASURED_FIRST = 4
CHUNKS_BETWEEN_TRIALS = 32


def digest_of(content: bytes | Path) -> tuple[str, int]:
    """SHA-256 (hex) and size in bytes of what shall be sent.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    found = content.stat()
    return _file_digest(content, found.st_ino, found.st_size, found.st_mtime_ns), found.st_size


@lru_cache(maxsize=256)
def _file_digest(path: Path, inode: int, size: int, modified_ns: int) -> str:
    """Remembered while the file stays the same: many hosts are sent the same large file."""
    del inode, size, modified_ns
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file, chunk by chunk."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def compression_pays(
    *, wire_bytes_per_second: float, zlib_bytes_per_second: float, ratio: float
) -> bool:
    """Whether compressing a chunk and sending what is left takes less time than sending it.

    Args:
        ratio: Compressed size by size.
    """
    compressed = 1 / zlib_bytes_per_second + ratio / wire_bytes_per_second
    return compressed < 1 / wire_bytes_per_second


class ChunkEncoder:
    """Decides for each chunk, by what the wire and zlib showed lately, how it travels."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._compresses = False
        self._sent_bytes = 0
        self._measured_from = 0.0

    def encode(self, chunk: bytes) -> tuple[bool, bytes]:
        """Whether the chunk is compressed, and the bytes to send."""
        now = self._clock()
        self._count += 1
        measured = self._count - CHUNKS_UNMEASURED
        if measured == 0:
            self._measured_from, self._sent_bytes = now, 0
        trial = measured > 0 and measured % CHUNKS_BETWEEN_TRIALS == CHUNKS_MEASURED_FIRST
        data = zlib.compress(chunk, ZLIB_LEVEL) if trial or self._compresses else chunk
        if trial:
            self._compresses = self._judge(now, len(chunk), len(data))
        smaller = len(data) < len(chunk)
        self._sent_bytes += len(data) if smaller else len(chunk)
        return smaller, data if smaller else chunk

    def _judge(self, began: float, size: int, compressed_size: int) -> bool:
        done = self._clock()
        wire = self._sent_bytes / max(began - self._measured_from, 1e-6)
        self._measured_from, self._sent_bytes = done, 0
        return compression_pays(
            wire_bytes_per_second=max(wire, 1.0),
            zlib_bytes_per_second=size / max(done - began, 1e-6),
            ratio=compressed_size / size,
        )
