"""Which format the log may have: one that every member knows who may ever apply it. Pure.

Who is dead, or has left, may come back with the version that it had: it counts until it is
forgotten. Who is revoked never comes back, and who knows but an earlier format than the log's never
joins.
"""

from __future__ import annotations

from collections.abc import Iterable

from sappers.model.cluster_state import ClusterState
from sappers.model.commands import AdoptFormat
from sappers.model.member import Member


def plan_format(state: ClusterState, gossip: Iterable[Member]) -> list[AdoptFormat]:
    """Adopt the newest format that all know.

    Args:
        state: The leader's.
        gossip: Everyone whom it knows, itself too.
    """
    known = min((one.log_format for one in _who_counts(state, gossip)), default=0)
    return [AdoptFormat(known)] if known > state.format else []


def members_behind(
    state: ClusterState, gossip: Iterable[Member], wanted: int
) -> tuple[Member, ...]:
    """Who stands against a format, by name: what they say of themselves, or said last."""
    behind = (one for one in _who_counts(state, gossip) if one.log_format < wanted)
    return tuple(sorted(behind, key=lambda one: (one.name, one.id)))


def may_join(state: ClusterState, member: Member) -> bool:
    """Whether a member that is met knows the log's format."""
    return member.log_format >= state.format


def _who_counts(state: ClusterState, gossip: Iterable[Member]) -> list[Member]:
    """Of whom gossip has never heard nobody knows what it knows: nothing, then."""
    seen = {one.id: one for one in gossip}
    newcomers = {one.id: one for one in seen.values() if one.lives and may_join(state, one)}
    known = {one: seen.get(one, member) for one, member in state.members.items()}
    return [one for one in (newcomers | known).values() if one.id not in state.revoked]
