"""The electorate's keeper: carries out, as leader, one change at a time, and says why first.

The reason is committed before the change, in the term that it was decided in, so that whoever led
before changes nothing any more.
"""

from __future__ import annotations

import asyncio

import structlog

from sappers.agent.own_proposals import CommitInTerm
from sappers.decisions.electorate import (
    ElectorateChange,
    GrantVote,
    TransferLeadership,
    WithdrawVote,
    choose_heir,
    plan_electorate,
)
from sappers.decisions.leader_time import LeaderTime
from sappers.errors import SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import AnnounceElectorate
from sappers.model.member import Member, MemberState
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.policy import ElectorateSettings
from sappers.ports import Clock, ReplicatedLog

CHANGE_SECONDS = 10.0
HAND_OVER_SECONDS = 2.0
# After a change that did not work, and after one that did: what it led to must be seen first.
PAUSE_SECONDS = 2.0
UNFIT_SECONDS = 600.0

log = structlog.get_logger(__name__)


class ElectorateKeeper:
    """Plans at each turn of the leader's loop; a change runs beside the loop."""

    def __init__(self, settings: ElectorateSettings, clock: Clock, commit: CommitInTerm) -> None:
        self._settings = settings
        self._clock = clock
        self._commit = commit
        self._change: asyncio.Task[None] | None = None
        self._again_at = 0.0
        self._unfit_until: dict[str, float] = {}

    def attend(self, replicated: ReplicatedLog, steady_seconds: float) -> None:
        """Begin the next change, if one is due and none is under way; for the leader alone.

        Args:
            replicated: The log.
            steady_seconds: See `LeaderTime`.
        """
        now = self._clock.monotonic()
        if (self._change is not None and not self._change.done()) or now < self._again_at:
            return
        state, raft = replicated.state(), replicated.status()
        if raft.role is not RaftRole.LEADER:
            return
        unfit = {one for one, until in self._unfit_until.items() if until > now}
        time = LeaderTime(self._clock.now(), steady_seconds)
        change = plan_electorate(state, raft, unfit, time, self._settings)
        if change is None:
            return
        if isinstance(change, WithdrawVote) and _is_idle(state, raft, change.member_id):
            self._unfit_until[change.member_id] = now + UNFIT_SECONDS
        self._change = asyncio.create_task(
            self._execute(replicated, state, change, raft.term), name="change of the electorate"
        )

    async def close(self, replicated: ReplicatedLog) -> None:
        """Wait for no change any more; a leader lets another one lead, so that nobody waits."""
        if self._change is not None:
            self._change.cancel()
            await asyncio.gather(self._change, return_exceptions=True)
        raft = replicated.status()
        heir = choose_heir(replicated.state(), raft) if raft.role is RaftRole.LEADER else None
        if heir is None:
            return
        try:
            await replicated.transfer_leadership(heir.id, HAND_OVER_SECONDS)
        except SappersError as error:
            log.info("leadership not handed over", to=heir.name, reason=error.message)

    async def _execute(
        self, replicated: ReplicatedLog, state: ClusterState, change: ElectorateChange, term: int
    ) -> None:
        who = state.members[change.member_id].name
        log.info("changing the electorate", change=type(change).__name__, who=who)
        try:
            await self._commit((_announced(change),), term)
            await _carry_out(replicated, state.members[change.member_id], change)
        except SappersError as error:
            log.warning("electorate not changed", who=who, reason=error.message)
        finally:
            self._again_at = self._clock.monotonic() + PAUSE_SECONDS


async def _carry_out(replicated: ReplicatedLog, member: Member, change: ElectorateChange) -> None:
    match change:
        case GrantVote():
            address = f"{member.address}:{member.ports.raft}"
            await replicated.add_voter(member.id, address, CHANGE_SECONDS)
        case WithdrawVote():
            await replicated.remove_voter(member.id, CHANGE_SECONDS)
        case TransferLeadership():
            await replicated.transfer_leadership(member.id, CHANGE_SECONDS)


def _announced(change: ElectorateChange) -> AnnounceElectorate:
    match change:
        case GrantVote(member_id=who, reason=reason):
            return AnnounceElectorate(who, "joins", reason)
        case WithdrawVote(member_id=who, reason=reason):
            return AnnounceElectorate(who, "leaves", reason)
        case TransferLeadership(member_id=who, reason=reason):
            return AnnounceElectorate(who, "leads", reason)


def _is_idle(state: ClusterState, raft: RaftStatus, member_id: str) -> bool:
    """Whether a voter lives and takes no part. One of too many may be needed again soon."""
    member = state.members.get(member_id)
    return member is not None and member.state is MemberState.ALIVE and member_id in raft.unheard
