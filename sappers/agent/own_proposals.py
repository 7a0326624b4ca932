"""What this member wants committed by itself, beside what operators and others bring to it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from sappers.errors import CommandRefused
from sappers.model.commands import Command, Proposal
from sappers.ports import Clock, ReplicatedLog

COMMIT_SECONDS = 10.0

CommitInTerm = Callable[[tuple[Command, ...], int], Awaitable[None]]
"""`OwnProposals.commit`, for those who need no more: the commands, and the term of the decision."""


class OwnProposals:
    """Makes this member's proposals, and as its leader has them committed.

    Args:
        log_now: The log as it is now.
    """

    def __init__(self, me_id: str, log_now: Callable[[], ReplicatedLog], clock: Clock) -> None:
        self._me_id = me_id
        self._log_now = log_now
        self._clock = clock

    def proposal(self, *commands: Command, leader_term: int | None = None) -> Proposal:
        """Commands as this member proposes them now."""
        return Proposal(
            request_id=uuid.uuid4().hex,
            proposer=self._me_id,
            time=self._clock.now(),
            commands=commands,
            leader_term=leader_term,
            by=f"member/{self._me_id}",
        )

    async def commit(
        self, commands: tuple[Command, ...], term: int, timeout_seconds: float = COMMIT_SECONDS
    ) -> None:
        """Have commands committed as this leader's, in no other term than they were decided in.

        Raises:
            CommandRefused: Committed, and without effect.
            SappersError: Not known to be committed.
        """
        proposal = self.proposal(*commands, leader_term=term)
        applied = await self._log_now().propose(proposal, timeout_seconds)
        if applied.refused:
            raise CommandRefused(applied.refused)
