"""What a member does at each turn of its loop because it leads, and stops once it does not."""

from __future__ import annotations

from collections.abc import Callable

from sappers.agent.electorate import ElectorateKeeper
from sappers.agent.guest_ear import GuestEar
from sappers.agent.planning import ClusterPlanner
from sappers.agent.power import PowerFence
from sappers.agent.repairs import healers_to_hear
from sappers.model.observation import MemberObservation, RaftRole
from sappers.ports import ReplicatedLog


class Leadership:
    """Hears healers, has committed what the cluster lacks, and keeps the electorate.

    Args:
        log_now: The log as it is now.
        healer_ear: Hears guests that are healers; one of another leader is left alone.
    """

    def __init__(
        self,
        log_now: Callable[[], ReplicatedLog],
        planner: ClusterPlanner,
        electorate: ElectorateKeeper,
        power: PowerFence,
        healer_ear: GuestEar,
    ) -> None:
        self._log_now = log_now
        self._planner = planner
        self._electorate = electorate
        self._power = power
        self._healer_ear = healer_ear

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

    def _leads(self) -> bool:
        return self._log_now().status().role is RaftRole.LEADER

    async def close(self) -> None:
        """End what is under way; another member is to lead, so that nobody waits for one."""
        await self._power.close()
        await self._electorate.close(self._log_now())
