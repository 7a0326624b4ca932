"""The images on this member: what others are told and given, what is kept, what may be launched.

Invariant: nothing enters the store but what a trusted key signed and what matches its digest, and
nothing is launched that was not put together and verified just before.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import structlog

from sappers.agent.background import kept_up
from sappers.agent.images.distributor import Distributor
from sappers.agent.images.holdings import Holding, Holdings
from sappers.agent.images.image_threads import ImageThreads
from sappers.agent.images.peer_images import PREFIX_DIGITS
from sappers.agent.images.progress import Progress
from sappers.agent.images.pruning import Pruning
from sappers.agent.images.rate import Rate
from sappers.agent.images.uploads import Uploads
from sappers.decisions.wanted_images import wanted_images
from sappers.errors import ImageError, ImageIncomplete
from sappers.model.allocation import Allocation
from sappers.model.chunks_here import ChunksHere
from sappers.model.cluster_state import ClusterState
from sappers.model.image import DIGEST_SHOWN, Manifest, SignedManifest
from sappers.model.member import Member
from sappers.model.observation import ImageReading
from sappers.model.policy import ImageSettings
from sappers.model.workload import ImageReference
from sappers.ports import (
    ChunkSource,
    Clock,
    ImageFigures,
    ImageStore,
    Launcher,
    PeerClient,
)
from sappers.security.signing import signers

# Whoever waits for news is told at most so often: with every chunk it would be too much talk.
NEWS_SECONDS = 0.75
SPARE_THREADS = 4

log = structlog.get_logger(__name__)


class Spread:
    """Implements `ports.MemberImages`; `run` brings what is wanted, `follow` says what that is."""

    def __init__(
        self,
        *,
        me_id: str,
        store: ImageStore,
        launcher: Launcher,
        peers: PeerClient,
        chunks: ChunkSource,
        members: Callable[[], Sequence[Member]],
        settings: ImageSettings,
        clock: Clock,
    ) -> None:
        self._me_id = me_id
        self._store = store
        self._launcher = launcher
        self._threads = ImageThreads(settings.downloads_at_once + SPARE_THREADS)
        self._holdings = Holdings(store, self._threads)
        self._uploads = Uploads(
            settings.uploads_at_once, Rate(settings.upload_mbit_per_second, clock)
        )
        self._distributor = Distributor(
            me_id=me_id,
            store=store,
            holdings=self._holdings,
            peers=peers,
            chunks=chunks,
            members=members,
            settings=settings,
            clock=clock,
            threads=self._threads,
        )
        self._pruning = Pruning(store, self._holdings, self._threads, clock)
        self._progress = Progress(clock)
        self._wanted: tuple[ImageReference, ...] = ()
        self._keys: object = None
        self._assembling: dict[str, asyncio.Lock] = {}
        self._bytes_received = 0

    # -- the agent's side ---------------------------------------------------------------------

    async def run(self) -> None:
        """Bring what is wanted and remove what is not, until cancelled."""
        try:
            await asyncio.gather(kept_up(self._distributor.run), kept_up(self._pruning.run))
        finally:
            self._threads.close()

    def follow(self, state: ClusterState, *, caught_up: bool) -> None:
        """Want what the state says; with `caught_up` it is new enough to remove the rest."""
        if self._keys != state.image_keys:
            # What was trusted may be so no more, and the other way round: the store is asked anew.
            self._keys = state.image_keys
            for held in self._holdings:
                self._holdings.drop(held.digest)
        self._wanted = wanted_images(state, self._me_id)
        self._distributor.want(self._wanted)
        if caught_up:
            self._pruning.keep(frozenset(image.digest for image in self._wanted))

    def announced(self) -> tuple[str, ...]:
        """The beginnings of the digests of images that others may ask this member for."""
        held = (self._holdings.get(image.digest) for image in self._wanted)
        return tuple(dict.fromkeys(one.digest[:PREFIX_DIGITS] for one in held if one and one.count))

    def readings(self, allocations: Sequence[Allocation]) -> dict[str, ImageReading]:
        """How images are here, by digest: those of this member's allocations, and all that is
        wanted, for an allocation may come between this reading and what is decided by it.
        """
        images = {image.digest: image for image in self._wanted}
        images |= {one.image.digest: one.image for one in allocations if not one.status.is_terminal}
        self._progress.keep_only(images)
        return {
            image.digest: self._progress.reading(
                image, self._holdings.get(image.digest), self._distributor.trouble(image.digest)
            )
            for image in images.values()
        }

    async def ready(self, digest: str) -> Manifest:
        """Put an image's files together, verified, for a guest that starts now.

        Raises:
            ImageIncomplete: Chunks are missing or were damaged; they are being fetched.
            ImageError: It is not here, not trusted, or the disk is full.
        """
        async with self._assembling.setdefault(digest, asyncio.Lock()):
            try:
                return await self._threads.run(self._store.assemble, digest)
            except ImageIncomplete as error:
                log.warning("image is not whole", image=digest, missing=len(error.missing))
                self._holdings.lose(error.missing)
                self._distributor.wake()
                raise

    # -- the others' side ---------------------------------------------------------------------

    def held(self, digest: str) -> tuple[int, int]:
        """How many chunks are here, of how many; see `ports.MemberImages`."""
        held = self._holdings.get(digest)
        return (held.count, len(held.order)) if held else (0, 0)

    def why_not(self, digest: str) -> str:
        """Why an image is not whole here, or empty."""
        held = self._holdings.get(digest)
        trouble = self._distributor.trouble(digest)
        return trouble.text if trouble and not (held and held.whole) else ""

    def figures(self) -> ImageFigures:
        """What images have cost so far."""
        held = (self._holdings.get(image.digest) for image in self._wanted)
        return ImageFigures(
            bytes_fetched=self._distributor.bytes_fetched,
            bytes_received=self._bytes_received,
            bytes_sent=self._uploads.bytes_sent,
            chunks_damaged=self._distributor.chunks_damaged,
            uploads_refused=self._uploads.refused,
            whole=sum(1 for one in held if one and one.whole),
            wanted=len(self._wanted),
        )

    async def signers(self, digest: str) -> tuple[str, ...]:
        """The keys that truly signed an image of the cluster, trusted or not.

        Raises:
            ImageError: Its manifest is not here.
        """
        found = await self.signed(digest)
        if found is None:
            raise ImageError(f"the manifest of image {digest[:DIGEST_SHOWN]} is not here")
        return await self._threads.run(signers, found)

    async def signed(self, digest: str) -> SignedManifest | None:
        """The signed manifest; None when it is not here, damaged, or signed by nobody trusted."""
        return await self._threads.run(self._store.signed, digest)

    async def accept(self, digest: str, signed: SignedManifest) -> Manifest:
        """Keep a manifest; see `ports.MemberImages`."""
        if hashlib.sha256(signed.manifest).hexdigest() != digest:
            raise ImageError(f"the manifest is not that of image {digest[:DIGEST_SHOWN]}")
        await self._threads.run(self._store.put_signed, signed)
        manifest = await self._threads.run(self._store.manifest, digest)
        if manifest is None or await self._holdings.load(digest) is None:
            raise ImageError(f"image {digest[:DIGEST_SHOWN]} was removed just now")
        self._distributor.wake()
        return manifest

    async def chunks_here(self, digest: str, seen: int, wait_seconds: float) -> ChunksHere | None:
        """Which chunks are here; see `ports.MemberImages`."""
        held = await self._holdings.wait_for(digest, wait_seconds)
        if held is None:
            return None
        if wait_seconds and not held.whole:
            await _news(held, seen, wait_seconds)
        return held.told()

    async def accept_chunk(self, chunk: str, frame: bytes) -> None:
        """Keep a chunk that an image whose manifest is here needs."""
        if not self._holdings.names(chunk):
            raise ImageError(
                f"no image on this member has chunk {chunk[:DIGEST_SHOWN]}",
                hint="PUT /v1/images/{digest} its manifest to this member first",
            )
        await self._threads.run(self._store.write_chunk, chunk, frame)
        self._bytes_received += len(frame)
        self._holdings.add(chunk)
        self._distributor.wake()

    def uploading(self) -> AbstractAsyncContextManager[None]:
        """A slot for sending one chunk; see `ports.MemberImages`."""
        return self._uploads.slot()

    async def give_chunk(self, chunk: str) -> bytes | None:
        """A chunk's frame, once the bandwidth allows it to go; None when it is not here."""
        frame = await self._threads.run(self._store.read_chunk, chunk)
        if frame is None:
            self._holdings.lose([chunk])
            self._distributor.wake()
            return None
        await self._uploads.send(len(frame))
        return frame

    async def warm(self, digest: str) -> str:
        """Have what lets guests of an image start quickly; what happened, for a person."""
        manifest = await self.ready(digest)
        return await self._launcher.warm(manifest, digest)


async def _news(held: Holding, seen: int, wait_seconds: float) -> None:
    """Return when something came or went, and most of what follows at once came too."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    told_at = min(loop.time() + NEWS_SECONDS, deadline)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            while held.count == seen:
                await held.changes()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(told_at):
            while not held.whole:
                await held.changes()
