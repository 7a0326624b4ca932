"""Which members are forgotten: those that are gone for good, and have nothing left. Pure.

Invariant: nobody is forgotten who lives, votes, is counted on by the hub, is being repaired, or
whose guests may still run. Who comes back after that joins anew, as what it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sappers.decisions.fencing import may_run
from sappers.decisions.leader_time import LeaderTime
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import ForgetMember
from sappers.model.member import Member, MemberState

# Leaders change more often than in days: the rest is believed of the log's stamps.
_SEEN_SECONDS_MAX = 3600.0
_GONE = (MemberState.DEAD, MemberState.LEFT)


def why_kept(state: ClusterState, member: Member) -> str:
    """What stands against forgetting a member, as a sentence's end; empty if nothing does."""
    if member.state not in _GONE:
        return f"it is {member.state}"
    if member.id in state.electorate:
        return "it has a vote"
    if member.id in state.hub_servers:
        return "the hub counts on it"
    if state.open_repair(member.id) is not None:
        return "it is being repaired"
    left = [one.id for one in state.allocations_on(member.id) if may_run(one, ())]
    return f"{left[0]} may still run there" if left else ""


def plan_forgetting(
    state: ClusterState, time: LeaderTime, after_seconds: float, repaired: Collection[str] = ()
) -> list[ForgetMember]:
    """Forget who has been gone for so long, by the log's stamps; this leader saw much of it.

    Args:
        state: With what gossip says now.
        time: The leader's.
        after_seconds: How long somebody is gone before that.
        repaired: Ids of members that the same plan begins to repair.
    """
    seen_seconds = min(after_seconds, _SEEN_SECONDS_MAX)
    return [
        ForgetMember(member.id, member.state_since)
        for _, member in sorted(state.members.items())
        if member.state in _GONE
        and member.id not in repaired
        and time.now - member.state_since >= after_seconds
        and time.since(member.state_since) >= seen_seconds
        and not why_kept(state, member)
    ]


def forgotten_by_the_log(state: ClusterState, gossip: Sequence[Member]) -> tuple[str, ...]:
    """Ids of those that gossip here calls gone, and that the log knows no more.

    Args:
        state: Of a member that is as far as the cluster. Empty, it tells nothing.
        gossip: Everyone that it has met.
    """
    known = {*state.members, *state.electorate} if state.members else {one.id for one in gossip}
    return tuple(one.id for one in gossip if one.state in _GONE and one.id not in known)
