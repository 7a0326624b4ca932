"""A sealed file: replaced as a whole or not at all, and refused when its checksum is wrong."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path
from typing import BinaryIO

from sappers.errors import LogDamaged

_HEADER = struct.Struct("<8s8sQ16s")  # magic, kind, length of the content, digest of the content
_MAGIC = b"SAPPERS1"
_READ_BYTES = 256 * 1024


def seal(kind: str, content: bytes) -> bytes:
    """The bytes of a sealed file of this kind (at most 8 letters)."""
    file = io.BytesIO()
    sealing = Sealing(file, kind)
    sealing.write(content)
    sealing.end()
    return file.getvalue()


def unseal(kind: str, sealed: bytes, path: Path, hint: str) -> bytes:
    """The content of a sealed file.

    Raises:
        LogDamaged: It is cut short, changed, or of another kind or version; names `path`.
    """
    check_sealed(kind, io.BytesIO(sealed), path, hint)
    return sealed[_HEADER.size :]


class Sealing:
    """Writes a sealed file piece by piece; it is one once `end` returns."""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        self._file = file
        self._kind = kind.encode()
        self._digest = _digest()
        self._length = 0
        file.write(bytes(_HEADER.size))

    def write(self, content: bytes) -> None:
        """Append to the content."""
        self._digest.update(content)
        self._length += self._file.write(content)

    def end(self) -> int:
        """Complete it; the file's size in bytes."""
        self._file.seek(0)
        digest = self._digest.digest()
        self._file.write(_HEADER.pack(_MAGIC, self._kind, self._length, digest))
        return _HEADER.size + self._length


def check_sealed(kind: str, file: BinaryIO, path: Path, hint: str) -> None:
    """Read a sealed file, piece by piece, and stop where its content begins.

    Raises:
        LogDamaged: As `unseal`.
    """
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise LogDamaged(f"{path} is cut short ({len(header)} bytes)", hint=hint)
    magic, found, length, told = _HEADER.unpack(header)
    if magic != _MAGIC or found.rstrip(b"\0") != kind.encode():
        raise LogDamaged(f"{path} is no {kind} file of this version", hint=hint)
    digest = _digest()
    while piece := file.read(_READ_BYTES):
        digest.update(piece)
        length -= len(piece)
    if length != 0 or told != digest.digest():
        raise LogDamaged(f"{path} does not match its checksum", hint=hint)
    file.seek(_HEADER.size)


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)
