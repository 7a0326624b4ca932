"""Who votes: the first voters of a new cluster, and one change at a time from then on. Pure.

Invariants of `plan_electorate`, whatever it is told:
- No change leaves fewer voters that may fail than there were, but where fewer are wanted; and none
  is planned without a quorum.
- A voter that is well is never replaced because another would be better, so nothing flaps: what
  comes back after it was replaced waits until a place is free.
- A dead voter is removed before its replacement is added, so that the dead never count; one that
  lives is removed only after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

import msgspec

from sappers.decisions.leader_time import LeaderTime
from sappers.decisions.scheduler import GUEST_OVERHEAD_MIB
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member, MemberState
from sappers.model.observation import RaftStatus
from sappers.model.policy import ElectorateSettings

FIVE_FROM_MEMBERS = 7
# A member that has just come back may be about to go again.
SETTLED_AFTER_SECONDS = 10.0


class GrantVote(msgspec.Struct, frozen=True):
    """Give a member a vote."""

    member_id: str
    reason: str


class WithdrawVote(msgspec.Struct, frozen=True):
    """Take a member's vote away."""

    member_id: str
    reason: str


class TransferLeadership(msgspec.Struct, frozen=True):
    """Let another voter lead, because the leader is to vote no more."""

    member_id: str
    reason: str


ElectorateChange = GrantVote | WithdrawVote | TransferLeadership


def plan_electorate(
    state: ClusterState,
    raft: RaftStatus,
    unfit: Collection[str],
    time: LeaderTime,
    settings: ElectorateSettings,
) -> ElectorateChange | None:
    """The one change that brings the electorate closer to what it should be, or None.

    Args:
        state: The leader's state.
        raft: How the log stands, seen from the leader.
        unfit: Members that were given a vote and did not take part; others are chosen before long.
        time: The leader's. A voter whose death an earlier leader stamped, by a clock that may be
            wrong, is waited for anew.
        settings: How many voters, and how long one may be away.
    """
    if set(raft.electorate) != set(state.electorate) or not state.electorate:
        return None  # a change is under way
    view = _View(state, raft, unfit, time, settings)
    if tolerance(len(view.living), view.size) < 0:
        return None
    if view.gone:
        return _replace_gone(view, raft)
    if view.newcomers:
        return None
    return _fill(view) or _replace_living(view, raft) or _shrink(view, raft)


class _View:
    """The members as this decision sees them."""

    def __init__(
        self,
        state: ClusterState,
        raft: RaftStatus,
        unfit: Collection[str],
        time: LeaderTime,
        settings: ElectorateSettings,
    ) -> None:
        self.state = state
        self.voters = tuple(
            state.members[voter] for voter in state.electorate if voter in state.members
        )
        self.size = len(state.electorate)
        silent = raft.unheard
        self.revoked = [one for one in self.voters if one.id in state.revoked]
        # Raft gives a new voter some time before it calls it unheard; what it says itself, none.
        self.newcomers = [
            one for one in self.voters if one.lives and (one.id in silent or not one.has_vote)
        ]
        self.living = [
            one
            for one in self.voters
            if one.lives and one not in self.newcomers and one not in self.revoked
        ]
        self.gone = {
            voter.id: reason
            for voter in self.voters
            if (
                reason := _why_gone(
                    voter, silent.get(voter.id, 0), time, settings.replace_after_seconds
                )
            )
        }
        self.gone |= {one.id: f"{one.name} is revoked" for one in self.revoked}
        self.leaving = {
            voter.id: f"{voter.name} is {state.cordons[voter.id].word}"
            for voter in self.living
            if voter.id in state.cordons
        }
        self.spares = [
            member
            for _, member in sorted(state.members.items())
            if member.id not in unfit and _may_be_given_a_vote(state, member, time)
        ]
        staying = self.size - len(self.gone) - len(self.leaving)
        self.wanted = _wanted_size(self.size, staying + len(self.spares), settings.size)

    @property
    def least_tolerance(self) -> int:
        """How many voters must be able to fail after a change: as now, but no more than wanted."""
        now = tolerance(len(self.living), self.size)
        return max(0, min(now, tolerance(self.wanted, self.wanted)))

    @cached_property
    def _promised_mib(self) -> Counter[str]:
        """By member id; looked at once, and only by a plan that chooses."""
        promised: Counter[str] = Counter()
        for allocation in self.state.allocations.values():
            if not allocation.status.is_terminal:
                promised[allocation.member_id] += allocation.memory_mib + GUEST_OVERHEAD_MIB
        return promised

    def free_mib(self, member: Member) -> int:
        """Memory that guests do not have on a member."""
        return member.resources.memory_mib - self._promised_mib[member.id]

    def best_spare(self, without: Collection[str] = ()) -> Member | None:
        """Who should vote next, beside all voters but those in `without`."""
        crowd = _crowd(voter for voter in self.voters if voter.id not in without)
        return min(self.spares, key=lambda one: _rank(one, crowd, self.free_mib(one)), default=None)


def tolerance(living: int, size: int) -> int:
    """How many of the living voters may fail before the quorum is lost; negative: it is lost."""
    return living - (size // 2 + 1)


def _fill(view: _View) -> ElectorateChange | None:
    """Add a voter where there are too few."""
    if view.size >= view.wanted or (spare := view.best_spare()) is None:
        return None
    reason = f"{view.size} of {view.wanted} voters are there"
    return _add(view, spare, reason)


def _replace_gone(view: _View, raft: RaftStatus) -> ElectorateChange | None:
    """Remove a voter that is gone, if another can take its place, or there are too many.

    One that is revoked goes in any case, and first: the others listen to it no more.
    """
    gone = view.revoked or [one for one in view.voters if one.id in view.gone]
    if not view.revoked and view.size <= view.wanted and not view.spares:
        return None
    voter = _least(view, gone, raft.leader_id)
    if voter.id == raft.leader_id:
        return None  # whoever leads next sees to it
    return WithdrawVote(voter.id, view.gone[voter.id])


def _replace_living(view: _View, raft: RaftStatus) -> ElectorateChange | None:
    """Replace a voter that is well but is to go: its replacement is added first."""
    if not view.leaving:
        return None
    voter = _least(view, [one for one in view.living if one.id in view.leaving], raft.leader_id)
    reason = view.leaving[voter.id]
    if view.size <= view.wanted:
        spare = view.best_spare(without=(voter.id,))
        if spare is None:
            return None
        return _add(view, spare, f"{reason}; {spare.name} takes its place")
    return _remove_living(view, voter, reason, raft)


def _shrink(view: _View, raft: RaftStatus) -> ElectorateChange | None:
    if view.size <= view.wanted or not view.living:
        return None
    voter = _least(view, view.living, raft.leader_id)
    return _remove_living(view, voter, f"{view.wanted} voters are enough", raft)


def _remove_living(
    view: _View, voter: Member, reason: str, raft: RaftStatus
) -> ElectorateChange | None:
    if tolerance(len(view.living) - 1, view.size - 1) < view.least_tolerance:
        return None
    if voter.id != raft.leader_id:
        return WithdrawVote(voter.id, reason)
    heir = choose_heir(view.state, raft)
    if heir is None:
        return None
    return TransferLeadership(heir.id, f"{reason}; it leads, and {heir.name} shall")


def _add(view: _View, spare: Member, reason: str) -> GrantVote | None:
    """Give a spare a vote, if the others alone are a quorum until it takes part.

    A voter that is alone needs the second one for that in any case.
    """
    if view.size > 1 and tolerance(len(view.living), view.size + 1) < 0:
        return None
    if tolerance(len(view.living) + 1, view.size + 1) < view.least_tolerance:
        return None
    return GrantVote(spare.id, reason)


def choose_heir(state: ClusterState, raft: RaftStatus) -> Member | None:
    """Who should lead after the present leader: a voter that lives, is heard, and may stay."""
    heirs = [
        state.members[voter]
        for voter in state.electorate
        if voter in state.members
        and voter != raft.leader_id
        and voter not in raft.unheard
        and voter not in state.cordons
        and state.members[voter].lives
    ]
    return max(
        heirs,
        key=lambda one: (one.state is MemberState.ALIVE, one.voter_tag, one.id),
        default=None,
    )


def _least(view: _View, voters: Sequence[Member], leader_id: str | None = None) -> Member:
    """Whom to do without first: never the leader before others, then who is preferred least."""
    crowd = _crowd(view.voters)
    return max(
        voters,
        key=lambda one: (
            one.id != leader_id,
            one.id in view.leaving,
            *_rank(one, crowd, view.free_mib(one)),
        ),
    )


def _may_be_given_a_vote(state: ClusterState, member: Member, time: LeaderTime) -> bool:
    return (
        member.id not in state.electorate
        and member.id not in state.cordons
        and member.id not in state.revoked
        and not _holds_old_vote(member)
        and member.state is MemberState.ALIVE
        and LeaderTime(time.now).since(member.state_since) >= SETTLED_AFTER_SECONDS
    )


def _holds_old_vote(member: Member) -> bool:
    """Whether it has not learnt yet that its vote was taken: given back now, it would never."""
    return member.has_vote or member.vote_is_damaged


def _wanted_size(size: int, fit: int, setting: int) -> int:
    """How many voters there should be; between five and seven members it stays as it is.

    Args:
        size: How many there are.
        fit: Members that vote and may go on, or may begin to.
        setting: The operator's, or 0.
    """
    if setting:
        return setting
    if fit >= FIVE_FROM_MEMBERS or (size >= 5 and fit >= 5):
        return 5
    return 3 if fit >= 3 or size >= 3 else max(1, size)


def _why_gone(voter: Member, silent_seconds: int, time: LeaderTime, after_seconds: float) -> str:
    """Why a voter must be taken for gone for good, or empty."""
    if voter.state is MemberState.LEFT:
        return f"{voter.name} has left"
    away = time.since(voter.state_since)
    if voter.state is MemberState.DEAD and away >= after_seconds:
        return f"{voter.name} has been dead for {away:.0f} s"
    if voter.lives and silent_seconds >= after_seconds:
        return f"{voter.name} takes no part in Raft for {silent_seconds} s"
    return ""


def _rank(member: Member, crowd: Counter[str], free_mib: int) -> tuple[bool, int, int, str]:
    """Lower is who should rather vote, where voters stand in zones as in `crowd`."""
    return not member.voter_tag, crowd[_domain(member)], -free_mib, member.id


def _domain(member: Member) -> str:
    """What fails together; a member whose zone nobody named fails alone."""
    return f"zone {member.zone}" if member.zone else f"member {member.id}"


def _crowd(members: Iterable[Member]) -> Counter[str]:
    return Counter(_domain(member) for member in members)


def choose_first_voters(
    members: Sequence[Member], founder_id: str, count: int
) -> tuple[Member, ...] | None:
    """The voters of a new cluster, or None while it must not be founded yet.

    The founder itself, then one after the other as `_View.best_spare` would: tagged members, then
    those of zones with fewest voters, then those with most memory. Nobody is chosen while fewer
    than `count` members are alive, or when someone has a vote already: then there is a cluster,
    and a second one would rival it.
    """
    if any(member.has_vote for member in members):
        return None
    alive = [member for member in members if member.state is MemberState.ALIVE]
    founder = next((member for member in alive if member.id == founder_id), None)
    if founder is None or len(alive) < count:
        return None
    voters, others = [founder], [member for member in alive if member.id != founder_id]
    while len(voters) < count:
        crowd = _crowd(voters)
        others.sort(key=lambda one: _rank(one, crowd, one.resources.memory_mib))
        voters.append(others.pop(0))
    return tuple(sorted(voters, key=lambda member: member.id))
