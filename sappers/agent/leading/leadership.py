"""What a member does at each turn of its loop because it leads, and stops once it does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from sappers.agent.hub.guest_ear import GuestEar
from sappers.agent.leading.electorate import ElectorateKeeper
from sappers.agent.leading.planning import ClusterPlanner
from sappers.agent.leading.power import PowerFence
from sappers.agent.leading.repairs import Repairs, healers_to_hear
from sappers.agent.own_proposals import OwnProposals
from sappers.config import AgentSettings
from sappers.model.cluster_state import ClusterState
from sappers.model.observation import MemberObservation, RaftRole
from sappers.ports import Clock, HubClient, Refusals, RepairSigner, ReplicatedLog


class Leadership:
    """Answers healers, has committed what the cluster lacks, and keeps the electorate.

    Args:
        genesis: The file that this member votes by.
        log_now: The log as it is now.
        signer: Makes the healers' credentials.
        image_signers: The keys that truly signed an image, by its digest.
    """

    def __init__(
        self,
        settings: AgentSettings,
        genesis: Path,
        *,
        log_now: Callable[[], ReplicatedLog],
        proposals: OwnProposals,
        clock: Clock,
        hub: HubClient,
        signer: RepairSigner,
        image_signers: Callable[[str], Awaitable[Collection[str]]],
        refusals: Refusals,
    ) -> None:
        self._log_now = log_now
        self._planner = ClusterPlanner(
            log_now, proposals, clock, genesis, settings.fencing, settings.forget_after_seconds
        )
        self._electorate = ElectorateKeeper(settings.electorate, clock, proposals.commit)
        self._power = PowerFence(
            settings.cluster, settings.fencing, proposals.commit, lambda: log_now().state()
        )
        self._repairs = Repairs(log_now, proposals, clock, hub, signer, image_signers, refusals)
        self._healer_ear = GuestEar(
            clock=clock, hub=hub, refusals=refusals, hear=self._repairs.hear
        )

    async def attend(self, observed: MemberObservation) -> None:
        """One turn."""
        healers = healers_to_hear(self._log_now().state()) if self._leads() else {}
        await self._healer_ear.attend(healers)
        if not self._leads():
            return
        decided = await self._planner.propose(observed)
        replicated = self._log_now()
        self._electorate.attend(replicated, self._planner.steady_seconds)
        if decided:
            term = replicated.status().term
            self._power.attend(replicated.state(), observed.surely_ended, term)

    def keep_only_what_is_in(self, state: ClusterState) -> None:
        """Forget guests that are in the state no more."""
        self._repairs.keep_only(set(state.allocations))

    async def close(self) -> None:
        """End what is under way; another member is to lead, so that nobody waits for one."""
        await self._power.close()
        await self._electorate.close(self._log_now())

    def _leads(self) -> bool:
        return self._log_now().status().role is RaftRole.LEADER
