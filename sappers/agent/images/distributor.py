"""The distributor: brings every wanted image to this member, from whoever has parts of it.

Driven by what is missing: a lost message, a restart or a full disk costs time, and the next round
goes on with what is still missing. What came is verified before it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from sappers.agent.images.holdings import Holding, Holdings
from sappers.agent.images.image_threads import ImageThreads
from sappers.agent.images.manifest_search import ManifestSearch
from sappers.agent.images.peer_images import PeerImages
from sappers.agent.images.rate import Rate
from sappers.agent.images.trouble import Trouble
from sappers.decisions.fetching import Fetch, FetchLimits, plan_fetches
from sappers.errors import ApiError, ImageError
from sappers.model.image import CHUNK_BYTES, DIGEST_SHOWN
from sappers.model.member import Member
from sappers.model.policy import ImageSettings
from sappers.model.workload import ImageReference
from sappers.ports import ChunkSource, Clock, ImageStore, PeerClient

LOOK_SECONDS = 1.0
# Answers come in bunches; one plan for a bunch.
BREATH_SECONDS = 0.003
FROM_ONE_MEMBER = 4
DISK_REST_SECONDS = 5.0
DISK_REST_SECONDS_MAX = 60.0

log = structlog.get_logger(__name__)


class Distributor:
    """Runs for as long as the agent does; `want` says what it works for."""

    def __init__(
        self,
        *,
        me_id: str,
        store: ImageStore,
        holdings: Holdings,
        peers: PeerClient,
        chunks: ChunkSource,
        members: Callable[[], Sequence[Member]],
        settings: ImageSettings,
        clock: Clock,
        threads: ImageThreads,
    ) -> None:
        self._me_id = me_id
        self._store = store
        self._holdings = holdings
        self._chunks = chunks
        self._clock = clock
        self._threads = threads
        self._limits = FetchLimits(settings.downloads_at_once, FROM_ONE_MEMBER)
        self._rate = Rate(settings.download_mbit_per_second, clock)
        self._wake = asyncio.Event()
        self._others = PeerImages(
            me_id=me_id, peers=peers, members=members, clock=clock, wake=self._wake.set
        )
        self._manifests = ManifestSearch(
            store=store,
            peers=peers,
            candidates=self._others.candidates,
            clock=clock,
            threads=threads,
        )
        self._wanted: tuple[ImageReference, ...] = ()
        self._under_way: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._troubles: dict[str, Trouble] = {}
        self._disk_trouble: Trouble | None = None
        self._disk_rest_until = 0.0
        self._disk_rest_seconds = DISK_REST_SECONDS
        self.bytes_fetched = 0
        self.chunks_damaged = 0

    def want(self, images: tuple[ImageReference, ...]) -> None:
        """Bring these here, the first ones first."""
        if images == self._wanted:
            return
        gone = {image.digest for image in self._wanted} - {image.digest for image in images}
        for digest in gone:
            self._others.forget(digest)
            self._troubles.pop(digest, None)
            self._manifests.forget(digest)
        self._wanted = images
        self._wake.set()

    def wake(self) -> None:
        """Look again now: something came or went."""
        self._wake.set()

    def trouble(self, digest: str) -> Trouble | None:
        """Why an image is not coming, or None while it is."""
        if self._disk_trouble is not None:
            return self._disk_trouble
        return self._troubles.get(digest)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._wake.clear()
                for image in self._wanted:
                    await self._advance(image)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._wake.wait()
                await asyncio.sleep(BREATH_SECONDS)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._others.close()

    async def _advance(self, image: ImageReference) -> None:
        try:
            held = await self._holdings.load(image.digest)
        except ImageError as error:
            self._troubles[image.digest] = Trouble(error.message)
            return
        if held is None:
            if self._manifests.is_due(image.digest):
                self._start(self._seek(image))
        elif held.whole:
            if self._troubles.pop(image.digest, None) is not None:
                log.info("image is whole", image=image.name)
            self._others.forget(image.digest)
        elif self._clock.monotonic() >= self._disk_rest_until:
            self._others.ask(held)
            self._fetch_missing(image, held)

    def _fetch_missing(self, image: ImageReference, held: Holding) -> None:
        holders = self._others.holders(image.digest)
        for fetch in plan_fetches(
            self._me_id, held.missing, holders, self._under_way, self._limits
        ):
            self._under_way[fetch.chunk] = fetch.member_id
            self._start(self._fetch(image, fetch))
        if any(chunk in self._under_way for chunk in held.missing):
            self._troubles.pop(image.digest, None)
        elif not any(held.missing & chunks for chunks in holders.values()):
            text = f"no other member has the {len(held.missing)} missing ones"
            self._troubles[image.digest] = Trouble(text)

    async def _seek(self, image: ImageReference) -> None:
        trouble = await self._manifests.search(image)
        if trouble is None:
            self._troubles.pop(image.digest, None)
        else:
            self._troubles[image.digest] = trouble

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("fetching broke", error=repr(error))
        self._wake.set()

    # -- chunks -------------------------------------------------------------------------------

    async def _fetch(self, image: ImageReference, fetch: Fetch) -> None:
        try:
            await self._fetch_from(image, fetch, self._others.member(fetch.member_id))
        finally:
            del self._under_way[fetch.chunk]

    async def _fetch_from(self, image: ImageReference, fetch: Fetch, member: Member | None) -> None:
        if member is None:
            return  # it is gone since the plan was made
        try:
            await self._rate.take(CHUNK_BYTES)
            size = await self._threads.run(self._carry, member, fetch.chunk)
            self._rate.give_back(CHUNK_BYTES - size)
        except ApiError as error:
            self._rate.give_back(CHUNK_BYTES)  # a refusal is short
            self._blame(member, fetch, error)
        except ImageError as error:
            self._refuse(image, member, fetch, error)
        else:
            self.bytes_fetched += size
            self._others.served(fetch.member_id)
            self._disk_trouble, self._disk_rest_seconds = None, DISK_REST_SECONDS
            self._holdings.add(fetch.chunk)

    def _carry(self, member: Member, chunk: str) -> int:
        """In a thread: from the other member's disk to this one's; bytes on the wire."""
        frame = self._chunks.get(member, chunk)
        self._store.write_chunk(chunk, frame)
        return len(frame)

    def _blame(self, member: Member, fetch: Fetch, error: ApiError) -> None:
        if error.status == 503:
            self._others.busy(member.id)
        elif error.status == 404:
            self._others.lacks(member.id, fetch.chunk)
        else:
            log.info("chunk not fetched", member=member.name, error=error.message)
            self._others.failed(member.id)

    def _refuse(
        self, image: ImageReference, member: Member, fetch: Fetch, error: ImageError
    ) -> None:
        """It came and was not stored: the disk's fault, or whoever sent it."""
        if isinstance(error.__cause__, OSError):
            self._disk_trouble = Trouble(error.message, hopeless=True)
            self._disk_rest_until = self._clock.monotonic() + self._disk_rest_seconds
            self._disk_rest_seconds = min(2 * self._disk_rest_seconds, DISK_REST_SECONDS_MAX)
            log.error("image not stored", image=image.name, error=error.message)
            return
        self.chunks_damaged += 1
        log.warning(
            "damaged chunk refused",
            image=image.name,
            chunk=fetch.chunk[:DIGEST_SHOWN],
            member=member.name,
        )
        self._others.lacks(member.id, fetch.chunk)
        self._others.failed(member.id)
