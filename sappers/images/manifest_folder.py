"""Signed manifests of images: `manifests/<digest>` holds one with all signatures known of it.

Invariant: none is believed because it is here. It must match its digest, and each time that it is
asked for, one of the keys that truly signed it must be trusted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import msgspec

from sappers.errors import ImageError, ImageUntrusted
from sappers.images.chunks import check_digest, digest_of
from sappers.images.files import entries, look, read_limited, refusing, write_at, writing
from sappers.images.lock import holding
from sappers.images.manifests import SIGNED_BYTES_MAX, decode_manifest, decode_signed
from sappers.model.image import Manifest, Signature, SignedManifest, build_command
from sappers.security.signing import SIGNATURES_MAX, signers


class SignedHere(msgspec.Struct, frozen=True):
    """A manifest that matches its digest, and who truly signed it; trust is asked each time."""

    seen: tuple[int, ...]
    signed: SignedManifest
    manifest: Manifest
    signers: tuple[str, ...]


class ManifestFolder:
    """Manifests in a folder of the store `root`. For any number of threads.

    Args:
        trusted: Asked at every read: public keys (64 hex digits) whose images may be used.
    """

    def __init__(self, folder: Path, root: Path, trusted: Callable[[], Collection[str]]) -> None:
        self._folder = folder
        self._root = root
        self._trusted = trusted
        self._read: dict[str, SignedHere] = {}
        self._signing = threading.Lock()

    def look_up(self, digest: str) -> SignedHere | None:
        """What stands under a digest and has it, whoever signed it.

        Raises:
            ImageError: That is no digest; the disk cannot be read.
        """
        path = self._folder / check_digest(digest)
        known = self._read.get(digest)
        if known and known.seen == look(path):
            return known
        with refusing(self._root):
            found = read_limited(path, SIGNED_BYTES_MAX)
        if found is None:
            self._read.pop(digest, None)
            return None
        try:
            signed = decode_signed(found[0])
            manifest = decode_manifest(signed.manifest)
        except ImageError:
            return None
        if digest_of(signed.manifest) != digest:
            return None
        read = self._read[digest] = SignedHere(found[1], signed, manifest, signers(signed))
        return read

    def find_trusted(self, digest: str) -> SignedHere | None:
        """As `look_up`, of what a trusted key signed."""
        found = self.look_up(digest)
        return found if found and self._trusts(found.signers) else None

    def require(self, digest: str) -> Manifest:
        """A manifest that is here.

        Raises:
            ImageUntrusted: Nobody trusted signed it.
            ImageError: There is none.
        """
        found = self.look_up(digest)
        if found is None:
            raise ImageError(
                f"image {digest[:12]} is not here, or its manifest is damaged",
                hint="build, pull or import it again",
            )
        if not self._trusts(found.signers):
            raise _untrusted(found.manifest.name, found.signers)
        return found.manifest

    def check(self, signed: SignedManifest) -> Manifest:
        """What is signed, when `put` would take it; raises as that."""
        manifest = decode_manifest(signed.manifest)
        keys = signers(signed)
        if not self._trusts(keys):
            raise _untrusted(manifest.name, keys)
        return manifest

    def put(self, signed: SignedManifest) -> str:
        """Store a manifest; its digest. Signatures of one that is here are joined, trusted first.

        Raises:
            ImageUntrusted: No trusted key signed it.
            ImageError: It makes no sense; the disk is full.
        """
        self.check(signed)
        keys = signers(signed)
        digest = digest_of(signed.manifest)
        with holding(self._root), self._signing:
            here = self.look_up(digest)
            signatures = {one.key: one for one in signed.signatures if one.key in keys}
            if here:
                known = here.signed.signatures
                signatures |= {one.key: one for one in known if one.key in here.signers}
            trusted = self._trusted()  # no number of strangers takes the place of these

            def rank(one: Signature) -> tuple[bool, bool, str]:
                return one.key not in trusted, one.key not in keys, one.key

            kept = sorted(signatures.values(), key=rank)
            joined = SignedManifest(signed.manifest, tuple(kept[:SIGNATURES_MAX]))
            if here is None or joined != here.signed:
                content = msgspec.json.encode(joined)
                with writing(self._folder / digest, self._root, durable=True) as file:
                    write_at(file.fileno(), content, 0)
            else:
                with refusing(self._root):
                    os.utime(self._folder / digest)  # whoever prunes takes it for one that is new
        return digest

    def files(self) -> Iterable[Path]:
        """Everything in the folder, what is unfinished too."""
        return entries(self._folder, self._root)

    def younger_than(self, seconds: float) -> Iterator[str]:
        """Names of the files that were written within so many seconds; none for 0."""
        since = time.time() - seconds
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if seconds and path.lstat().st_mtime > since:
                yield path.name

    def _trusts(self, keys: Collection[str]) -> bool:
        return not set(keys).isdisjoint(self._trusted())


def _untrusted(name: str, keys: tuple[str, ...]) -> ImageUntrusted:
    """The refusal of an image that no trusted key signed."""
    if not keys:
        return ImageUntrusted(
            f"image {name} is not signed, or its signature is wrong", hint=build_command(name)
        )
    return ImageUntrusted(
        f"image {name} is not signed by a trusted key",
        keys=keys,
        hint=f"it is signed by {', '.join(keys)}; if you know whose key that is: "
        f"sappers-deploy image trust add {keys[0]} --owner NAME",
    )
