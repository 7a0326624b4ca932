"""Pruning: what neither the cluster's images nor this member's guests need goes, after a while."""

from __future__ import annotations

import asyncio

import structlog

from sappers.agent.images.holdings import Holdings
from sappers.agent.images.image_threads import ImageThreads
from sappers.errors import ImageError
from sappers.ports import Clock, ImageStore

LOOK_SECONDS = 30.0
ANYWAY_SECONDS = 1200.0
# A manifest comes before it is committed, and its chunks after it: neither is garbage meanwhile.
SPARE_SECONDS = 900.0

log = structlog.get_logger(__name__)


class Pruning:
    """Looks now and then; does nothing before it was told what to keep."""

    def __init__(
        self, store: ImageStore, holdings: Holdings, threads: ImageThreads, clock: Clock
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._threads = threads
        self._clock = clock
        self._keep: frozenset[str] | None = None
        self._wanted_since: frozenset[str] = frozenset()
        self._pruned_at: float | None = None

    def keep(self, digests: frozenset[str]) -> None:
        """Images to keep from now on."""
        self._keep = digests
        self._wanted_since |= digests

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._keep is not None and self._is_due(self._keep):
                try:
                    await self.prune(self._keep)
                except ImageError as error:
                    log.warning("images not pruned", error=error.message)

    async def prune(self, keep: frozenset[str]) -> None:
        """Remove what no image of these needs.

        Raises:
            ImageError: The disk refuses.
        """
        before, self._wanted_since = self._wanted_since, keep
        try:
            removed = await self._threads.run(self._store.prune, keep, spare_seconds=SPARE_SECONDS)
        except ImageError:
            self._wanted_since |= before
            raise
        self._pruned_at = self._clock.monotonic()
        if removed:
            log.info("images pruned", removed=len(removed))
        self._holdings.lose(removed)
        for digest in removed:
            self._holdings.drop(digest)

    def _is_due(self, keep: frozenset[str]) -> bool:
        """When less is wanted than since the last time, and now and then for what was spared then.

        What came and went between two times counts, too.
        """
        if self._pruned_at is None or self._wanted_since - keep:
            return True
        return self._clock.monotonic() - self._pruned_at > ANYWAY_SECONDS
