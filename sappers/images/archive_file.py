"""An image as one file, for hosts without network: a plain tar that `tar tf` can list.

    image.json         the signed manifest
    chunks/<digest>    every chunk that it names, once, in the order of first use

Invariant: a reader expects exactly these members in this order and takes nothing else, so names in
the file choose no path, and none is missing, doubled or unknown. The manifest is stored last.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from sappers.errors import ChunkDamaged, ImageError, ImageIncomplete
from sappers.images.blobs import in_order
from sappers.images.chunks import digest_of
from sappers.images.files import check_place, refusing, replacing
from sappers.images.manifests import SIGNED_BYTES_MAX, decode_manifest, decode_signed
from sappers.images.store import FolderImageStore
from sappers.model.image import FRAME_BYTES_MAX, Manifest, SignedManifest
from sappers.security.signing import signers

Progress = Callable[[int, int], None]
"""Told how many chunks are done, and how many there are."""

_MANIFEST = "image.json"
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_PADDING_MAX = 1 << 20  # other writers of tar fill up to their own block


class ImageFile(msgspec.Struct, frozen=True):
    """What a file says that it holds; only its signatures and its manifest were looked at.

    Attributes:
        keys: Public keys that truly signed it, 64 hex digits each.
    """

    digest: str
    manifest: Manifest
    keys: tuple[str, ...]


def export_image(
    store: FolderImageStore, digest: str, path: Path, progress: Progress | None = None
) -> None:
    """Write an image to a file; equal stores make equal files. A file there is replaced.

    Raises:
        ImageIncomplete: Chunks are missing or damaged; build or pull it again.
        ImageError: There is no such image (or nobody trusted signed it); the file cannot be
            written.
    """
    check_place(path)
    with store.holding(), refusing(path.parent):
        if missing := store.missing_chunks(digest):
            raise _incomplete(digest, missing)
        signed = store.signed(digest)
        assert signed is not None
        with replacing(path) as file:
            _write(file, store, digest, signed, progress)


def import_image(store: FolderImageStore, path: Path, progress: Progress | None = None) -> str:
    """Take an image out of a file into a store, and give it its name; the image's digest.

    What comes before a mistake in the file stays as chunks, which the next pruning removes.

    Raises:
        ImageUntrusted: No key that the store trusts signed it; nothing was stored.
        ImageError: The file is damaged, cut off or no image; the disk is full.
    """
    with refusing(path), path.open("rb") as file, store.holding(), refusing(path):
        signed = _read_signed(file, path)
        manifest = store.check_signed(signed)
        chunks = manifest.chunks()

        def frames() -> Iterator[tuple[str, bytes]]:
            for chunk in chunks:
                yield chunk, _read_member(file, path, _member(chunk), FRAME_BYTES_MAX)

        try:
            for done, _ in enumerate(in_order(lambda one: store.write_chunk(*one), frames()), 1):
                if progress:
                    progress(done, len(chunks))
        except ChunkDamaged as error:
            raise _damaged(path, error.message) from error
        _read_end(file, path)
        digest = store.put_signed(signed)
        store.give_name(manifest.name, digest)
    return digest


def look_into(path: Path) -> ImageFile:
    """What a file holds and who signed it, trusted or not.

    Raises:
        ImageError: It cannot be read or is no image.
    """
    with refusing(path), path.open("rb") as file:
        signed = _read_signed(file, path)
    return ImageFile(digest_of(signed.manifest), decode_manifest(signed.manifest), signers(signed))


def _write(
    file: BinaryIO,
    store: FolderImageStore,
    digest: str,
    signed: SignedManifest,
    progress: Progress | None,
) -> None:
    _write_member(file, _MANIFEST, msgspec.json.encode(signed))
    chunks = decode_manifest(signed.manifest).chunks()
    for done, frame in enumerate(in_order(store.read_chunk, chunks), 1):
        if frame is None:
            raise _incomplete(digest, (chunks[done - 1],))
        _write_member(file, _member(chunks[done - 1]), frame)
        if progress:
            progress(done, len(chunks))
    file.write(_END)


def _write_member(file: BinaryIO, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    file.write(member.tobuf(tarfile.USTAR_FORMAT))
    file.write(content)
    file.write(bytes(-len(content) % _BLOCK))


def _read_signed(file: BinaryIO, path: Path) -> SignedManifest:
    return decode_signed(_read_member(file, path, _MANIFEST, SIGNED_BYTES_MAX))


def _read_member(file: BinaryIO, path: Path, name: str, limit: int) -> bytes:
    """The content of the next member, which must be a plain file of this name."""
    header = _read_exactly(file, path, _BLOCK)
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _damaged(path, f"{name} is not where it must be") from error
    if member.name != name or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise _damaged(path, f"{member.name[:80]!r} stands where {name} must be")
    if not 0 <= member.size <= limit:
        raise _damaged(path, f"{name} is too long")
    content = _read_exactly(file, path, member.size)
    _read_exactly(file, path, -member.size % _BLOCK)
    return content


def _read_exactly(file: BinaryIO, path: Path, length: int) -> bytes:
    content = file.read(length)
    if len(content) != length:
        raise _damaged(path, "it is cut off")
    return content


def _read_end(file: BinaryIO, path: Path) -> None:
    rest = file.read(_PADDING_MAX + 1)
    if len(rest) < len(_END):
        raise _damaged(path, "it is cut off")
    if len(rest) > _PADDING_MAX or rest.strip(b"\0"):
        raise _damaged(path, "something follows the image")


def _member(chunk: str) -> str:
    return f"chunks/{chunk}"


def _damaged(path: Path, why: str) -> ImageError:
    return ImageError(f"{path} is no image, or is damaged: {why}", hint="export it again")


def _incomplete(digest: str, missing: tuple[str, ...]) -> ImageIncomplete:
    return ImageIncomplete(
        f"image {digest[:12]} lacks {len(missing)} chunks", missing=missing, hint="build it again"
    )
