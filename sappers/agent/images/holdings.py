"""Holdings: which chunks of which images are on this member, in memory.

The store on disk has the truth; this is what others are told, many times a second. A chunk that
turns out to be gone or damaged is taken off the list when that is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator

from sappers.agent.images.image_threads import ImageThreads
from sappers.model.chunks_here import ChunksHere, chunks_here
from sappers.model.image import Manifest
from sappers.ports import ImageStore


class Holding:
    """One image whose manifest is here.

    Attributes:
        order: Its chunks, in the order of the manifest.
        missing: Those that are not here.
    """

    def __init__(self, digest: str, manifest: Manifest, missing: Iterable[str]) -> None:
        self.digest = digest
        self.name = manifest.name
        self.order = manifest.chunks()
        self.missing = set(missing)
        self._told: ChunksHere | None = None
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        """How many chunks are here."""
        return len(self.order) - len(self.missing)

    @property
    def whole(self) -> bool:
        """Whether all chunks are here."""
        return not self.missing

    def told(self) -> ChunksHere:
        """What to tell others."""
        if self._told is None:
            self._told = chunks_here(self.order, set(self.order) - self.missing)
        return self._told

    def touch(self) -> None:
        """Something came or went."""
        self._told = None
        self._changed.set()
        self._changed = asyncio.Event()

    async def changes(self) -> None:
        """Return when something came or went."""
        await self._changed.wait()


class Holdings:
    """Every image whose manifest is here and has been asked for."""

    def __init__(self, store: ImageStore, threads: ImageThreads) -> None:
        self._store = store
        self._threads = threads
        self._held: dict[str, Holding] = {}
        self._coming: dict[str, Holding] = {}
        self._images_of: dict[str, set[str]] = {}
        self._loading: dict[str, asyncio.Lock] = {}
        self._new = asyncio.Event()

    def get(self, digest: str) -> Holding | None:
        """The image as far as this process has looked."""
        return self._held.get(digest)

    def __iter__(self) -> Iterator[Holding]:
        return iter(list(self._held.values()))

    async def load(self, digest: str) -> Holding | None:
        """The image; looks into the store the first time. None without a trusted manifest.

        Raises:
            ImageError: The store cannot be read.
        """
        if held := self._held.get(digest):
            return held
        async with self._loading.setdefault(digest, asyncio.Lock()):
            if held := self._held.get(digest):
                return held
            manifest = await self._threads.run(self._store.manifest, digest)
            if manifest is None:
                return None
            # From here on chunks that come are noted, so none is missed while the store is read.
            held = self._coming[digest] = Holding(digest, manifest, manifest.chunks())
            for chunk in held.order:
                self._images_of.setdefault(chunk, set()).add(digest)
            try:
                held.missing &= set(await self._threads.run(self._store.missing_chunks, digest))
                self._held[digest] = held
            finally:
                del self._coming[digest]
            self._new.set()
            self._new = asyncio.Event()
            return held

    async def wait_for(self, digest: str, seconds: float) -> Holding | None:
        """The image, when its manifest comes within the time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (held := await self.load(digest)) is None:
                    await self._new.wait()
                return held
        return None

    def names(self, chunk: str) -> bool:
        """Whether an image that is looked at here needs this chunk."""
        return chunk in self._images_of

    def add(self, chunk: str) -> None:
        """A chunk is here now."""
        for held in self._naming(chunk):
            if chunk in held.missing:
                held.missing.discard(chunk)
                held.touch()

    def lose(self, chunks: Iterable[str]) -> None:
        """Chunks are gone, or were damaged."""
        for chunk in chunks:
            for held in self._naming(chunk):
                if chunk not in held.missing:
                    held.missing.add(chunk)
                    held.touch()

    def drop(self, digest: str) -> None:
        """An image is not looked at any more; `load` looks into the store again."""
        held = self._held.pop(digest, None)
        for chunk in held.order if held else ():
            images = self._images_of.get(chunk, set())
            images.discard(digest)
            if not images:
                self._images_of.pop(chunk, None)

    def _naming(self, chunk: str) -> Iterator[Holding]:
        for digest in self._images_of.get(chunk, ()):
            if held := self._held.get(digest) or self._coming.get(digest):
                yield held
