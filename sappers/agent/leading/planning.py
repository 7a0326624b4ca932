"""The leader's plan: what the cluster lacks, proposed in the term that it was decided in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from sappers.agent.clock import StepWatch
from sappers.agent.own_proposals import OwnProposals
from sappers.agent.voting.genesis import load_genesis
from sappers.decisions.reconcile_cluster import reconcile_cluster
from sappers.errors import OutcomeUnknown, SappersError
from sappers.model.commands import Command, FoundCluster
from sappers.model.observation import MemberObservation
from sappers.model.policy import FencingSettings
from sappers.ports import Clock, ReplicatedLog

COMMANDS_AT_ONCE = 100
PROPOSAL_SECONDS = 2.0

log = structlog.get_logger(__name__)


class ClusterPlanner:
    """Plans at each turn of the leader's loop; another leader's plan is never mixed with its own.

    Attributes:
        steady_seconds: See `LeaderTime`; as of the last plan.
    """

    def __init__(
        self,
        log_now: Callable[[], ReplicatedLog],
        proposals: OwnProposals,
        clock: Clock,
        genesis: Path,
        fencing: FencingSettings,
        forget_after_seconds: float = math.inf,
    ) -> None:
        self._log_now = log_now
        self._proposals = proposals
        self._fencing = fencing
        self._forget_after_seconds = forget_after_seconds
        self._steps = StepWatch(clock)
        self._genesis = genesis
        self._is_unsure = False  # a plan may be in the log that the state does not show
        self.steady_seconds = 0.0

    async def propose(self, observed: MemberObservation) -> bool:
        """Propose what the cluster lacks; what is refused is logged.

        Returns:
            False where nothing was decided, because the state may not show all of the log.
        """
        replicated = self._log_now()
        if not await self._has_seen_the_log(replicated):
            return False
        state, status = replicated.state(), replicated.status()
        commands: Sequence[Command]
        if state.cluster_id:
            now, unstepped_seconds = self._steps.read()
            self.steady_seconds = min(unstepped_seconds, observed.leading_seconds)
            commands = reconcile_cluster(
                state,
                observed,
                now,
                self._fencing,
                steady_seconds=self.steady_seconds,
                forget_after_seconds=self._forget_after_seconds,
            )
        else:
            try:
                genesis = load_genesis(self._genesis)
            except OSError as error:
                log.warning("cannot found the cluster yet", error=str(error))
                return False
            assert genesis is not None, "only voters lead, and voters have a genesis"
            commands = [FoundCluster(genesis.cluster_id, genesis.voters, genesis.image_keys)]
        for start in range(0, len(commands), COMMANDS_AT_ONCE):
            proposal = self._proposals.proposal(
                *commands[start : start + COMMANDS_AT_ONCE], leader_term=status.term
            )
            try:
                applied = await replicated.propose(proposal, PROPOSAL_SECONDS)
            except SappersError as error:
                log.warning("plan not committed", error=error.message)
                self._is_unsure = isinstance(error, OutcomeUnknown)
                return True
            if applied.refused:
                log.warning("plan refused", reason=applied.refused, index=applied.index)
        return True

    async def _has_seen_the_log(self, replicated: ReplicatedLog) -> bool:
        """Whether the state shows what earlier leaders, and this one, have had committed."""
        if self._is_unsure:
            try:
                await replicated.read_barrier(PROPOSAL_SECONDS)
            except SappersError as error:
                log.warning("an earlier plan may yet be committed", error=error.message)
                return False
            self._is_unsure = False
        return replicated.status().is_up_to_date(replicated.state().term)
