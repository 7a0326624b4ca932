"""Manifests as bytes: canonical when written, believed only after a look when read."""

from __future__ import annotations

import re

import msgspec

from sappers.errors import ImageError
from sappers.images.chunks import is_digest
from sappers.model.image import ARCHITECTURE, CHUNK_BYTES, Blob, Manifest, SignedManifest
from sappers.model.known_types import UNREADABLE, learn

SIGNED_BYTES_MAX = 8 << 20
"""No signed manifest is longer, as JSON: enough for files of 80 GB."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def encode_manifest(manifest: Manifest) -> bytes:
    """Canonical JSON: sorted keys, no spaces, so that equal manifests have equal digests."""
    return msgspec.json.encode(manifest, order="sorted")


def decode_manifest(content: bytes) -> Manifest:
    """A manifest that makes sense.

    Raises:
        ImageError: It does not; says why.
    """
    try:
        manifest = msgspec.json.decode(content, type=learn(Manifest))
    except UNREADABLE as error:
        raise ImageError(f"that is no manifest: {error}") from error
    check_name(manifest.name)
    if manifest.architecture != ARCHITECTURE:
        raise ImageError(
            f"image {manifest.name} is for {manifest.architecture!r}, and hosts are {ARCHITECTURE}"
        )
    for blob in manifest.blobs():
        _check_blob(blob)
    return manifest


def decode_signed(content: bytes) -> SignedManifest:
    """A signed manifest as it travels; neither its digest nor its signatures are checked.

    Raises:
        ImageError: It cannot be read.
    """
    if len(content) > SIGNED_BYTES_MAX:
        raise ImageError("that manifest is too long")
    try:
        return msgspec.json.decode(content, type=learn(SignedManifest))
    except UNREADABLE as error:
        raise ImageError(f"that is no signed manifest: {error}") from error


def check_name(name: str) -> str:
    """The name itself.

    Raises:
        ImageError: Images are not called so.
    """
    if not is_name(name):
        raise ImageError(
            f"{name!r} is no name of an image",
            hint="lower-case letters, digits and hyphens, at most 63 of them",
        )
    return name


def is_name(text: str) -> bool:
    """Whether images may be called so."""
    return bool(_NAME.fullmatch(text))


def _check_blob(blob: Blob) -> None:
    if not all(map(is_digest, (blob.digest, *blob.chunks))):
        raise ImageError("the manifest names a file by something that is no digest")
    if blob.size_bytes < 0 or -(-blob.size_bytes // CHUNK_BYTES) != len(blob.chunks):
        raise ImageError(f"blob {blob.digest[:12]} is not as long as its chunks are")
