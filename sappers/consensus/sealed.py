"""A sealed file: replaced as a whole or not at all, and refused when its checksum is wrong."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from sappers.errors import LogDamaged

_HEADER = struct.Struct("<8s8sQ16s")  # magic, kind, length of the content, digest of the content
_MAGIC = b"SAPPERS1"


def seal(kind: str, content: bytes) -> bytes:
    """The bytes of a sealed file of this kind (at most 8 letters)."""
    return _HEADER.pack(_MAGIC, kind.encode(), len(content), _digest(content)) + content


def unseal(kind: str, sealed: bytes, path: Path, hint: str) -> bytes:
    """The content of a sealed file.

    Raises:
        LogDamaged: It is cut short, changed, or of another kind or version; names `path`.
    """
    content = sealed[_HEADER.size :]
    if len(sealed) < _HEADER.size:
        raise LogDamaged(f"{path} is cut short ({len(sealed)} bytes)", hint=hint)
    magic, found, length, digest = _HEADER.unpack_from(sealed)
    if magic != _MAGIC or found.rstrip(b"\0") != kind.encode():
        raise LogDamaged(f"{path} is no {kind} file of this version", hint=hint)
    if length != len(content) or digest != _digest(content):
        raise LogDamaged(f"{path} does not match its checksum", hint=hint)
    return content


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
