"""Who votes: the first voters of a new cluster, chosen once when it is founded."""

from __future__ import annotations

from collections.abc import Sequence

from sappers.model.member import Member, MemberState


def choose_first_voters(
    members: Sequence[Member], founder_id: str, count: int
) -> tuple[Member, ...] | None:
    """The voters of a new cluster, or None while it must not be founded yet.

    The founder itself, then tagged members, then those with most memory. Nobody is chosen while
    fewer than `count` members are alive, or when someone has a vote already: then there is a
    cluster, and a second one would rival it.
    """
    if any(member.has_vote for member in members):
        return None
    alive = [member for member in members if member.state is MemberState.ALIVE]
    founder = next((member for member in alive if member.id == founder_id), None)
    if founder is None or len(alive) < count:
        return None
    others = sorted(
        (member for member in alive if member.id != founder_id),
        key=lambda member: (not member.voter_tag, -member.resources.memory_mib, member.id),
    )
    return tuple(sorted((founder, *others[: count - 1]), key=lambda member: member.id))
