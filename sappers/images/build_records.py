"""What was built before, by what it was made from; and how a build that fails says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sappers.durable import FULL
from sappers.errors import ImageError
from sappers.images.chunks import is_digest
from sappers.images.store import FolderImageStore
from sappers.model.image import Manifest
from sappers.security.signing import SigningKey


class BuildRecords:
    """Images by the digest of what they were made from.

    Args:
        cache: `builds/` in it is ours; it may be deleted at any time.
        signing_key: Signs what is kept; the store must trust it.
    """

    def __init__(self, cache: Path, store: FolderImageStore, signing_key: SigningKey) -> None:
        self._folder = cache / "builds"
        self._store = store
        self._signing_key = signing_key

    def find(self, inputs: str) -> str | None:
        """The image of these inputs, signed and named again; None when it has to be built."""
        try:
            digest = (self._folder / inputs).read_text().strip()
        except FileNotFoundError:
            return None
        manifest = self._store.manifest(digest) if is_digest(digest) else None
        if manifest is None or self._store.missing_chunks(digest):
            return None
        return self._store.put_manifest(manifest, self._signing_key)

    def keep(self, inputs: str, manifest: Manifest) -> str:
        """Sign and store an image that was just made of these inputs; its digest.

        Raises:
            ImageError: As `FolderImageStore.put_manifest`.
        """
        digest = self._store.put_manifest(manifest, self._signing_key)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / inputs).write_text(f"{digest}\n")
        return digest


@contextlib.contextmanager
def building(name: str, cache: Path) -> Iterator[None]:
    """A block that builds; what the disk refuses in it is an `ImageError` that says so.

    Raises:
        ImageError: A file cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise ImageError(
            f"cannot build {name}: {error.filename or cache}: {error.strerror or error}",
            hint="free some space and repeat" if error.errno in FULL else None,
        ) from error
