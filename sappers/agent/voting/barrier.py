"""Read barriers: how far the quorum is, asked once for many who want to know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sappers.ports import QuorumHeard, ReplicatedLog

ANSWER_SECONDS = 3.0


class SharedBarrier:
    """Read barriers that many callers share: each gets one that began after it called."""

    def __init__(self, replicated: Callable[[], ReplicatedLog]) -> None:
        self._replicated = replicated
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[QuorumHeard] | None = None

    async def pass_(self) -> QuorumHeard:
        """How far the quorum was, after this call.

        Raises:
            ProposalRejected, OutcomeUnknown: As `ReplicatedLog.read_barrier`.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._begin())
            self._next.add_done_callback(_take_notice)
        return await asyncio.shield(self._next)

    async def _begin(self) -> QuorumHeard:
        async with self._one_at_a_time:
            self._next = None  # who calls from now on needs another one
            return await self._replicated().read_barrier(ANSWER_SECONDS)


def _take_notice(task: asyncio.Task[QuorumHeard]) -> None:
    """Of a failure for which nobody waits any more."""
    if not task.cancelled():
        task.exception()
