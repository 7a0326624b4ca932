"""When a member looks for what may go."""

from __future__ import annotations

from sappers.agent.images.holdings import Holdings
from sappers.agent.images.image_threads import ImageThreads
from sappers.agent.images.pruning import Pruning
from tests.image_stores import make_store
from tests.unit.clocks import FixedClock


async def test_what_came_and_went_between_two_times_is_looked_for(tmp_path) -> None:
    threads = ImageThreads(1)
    store = make_store(tmp_path)
    pruning = Pruning(store, Holdings(store, threads), threads, FixedClock(100.0))
    try:

        def due(*digests: str) -> bool:
            keep = frozenset(digests)
            pruning.keep(keep)
            return pruning._is_due(keep)

        assert due("a")
        await pruning.prune(frozenset("a"))
        assert not due("a")
        assert not due("a", "b")
        assert due("a")
        await pruning.prune(frozenset("a"))
        assert not due("a")
    finally:
        threads.close()
