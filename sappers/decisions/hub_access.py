"""Whom the hub lets in: each member admits users by a key of its own; who is revoked, nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sappers.model.cluster_state import ClusterState
from sappers.model.hub import HubAccess, HubKey
from sappers.model.member import Member

# Longer than a guest's credentials last: until then all guests have some of their member's key.
SEED_LASTS_SECONDS = 660.0
# After a revocation, until what a server of that member has seen of guests' credentials is refused:
# by then their members have given them others.
RENEWED_WITHIN_SECONDS = 30.0


def hub_access(state: ClusterState, proven: Mapping[str, HubKey], now: float) -> HubAccess:
    """Whom a hub server lets in.

    Args:
        state: What is committed.
        proven: Keys that members have said themselves, by id.
        now: Unix time.
    """
    keys = {who: key for who, key in proven.items() if who not in state.revoked}
    revoked_at = last_revocation(state)
    seen = RENEWED_WITHIN_SECONDS <= now - revoked_at < SEED_LASTS_SECONDS
    seed_signs = state.hub_seed_ends is None or now < state.hub_seed_ends
    servers = [server for server in state.hub_servers if server not in state.revoked]
    shown = tuple(sorted(keys[server].shows for server in servers if server in keys))
    return HubAccess(
        signers=tuple(sorted({key.signs for key in keys.values()})),
        seed_signs=seed_signs,
        # With the seed ends that a server of before may be one of the hub.
        servers_show=shown if len(shown) == len(servers) or not seed_signs else (),
        seen_guests=_living_guests(state) if seen else (),
        seen_until=revoked_at if seen else 0.0,
    )


def last_revocation(state: ClusterState) -> float:
    """Unix time; 0 where nobody was revoked."""
    return max(state.revoked.values(), default=0.0)


def is_let_in(state: ClusterState, member_id: str) -> bool:
    """Whether all hub servers know a member's key, so that it may use it."""
    known = state.hub_keys
    return (
        member_id in known
        and member_id not in state.revoked
        and all(server in known for server in state.hub_servers if _lives(state, server))
    )


def may_say_keys(gossip: Iterable[Member]) -> bool:
    """Whether all who live understand a `PutHubKey`: the others would forget it."""
    return all(member.has_hub_key for member in gossip if member.lives)


def when_seed_ends(state: ClusterState, now: float) -> float | None:
    """Unix time from when on the hub's seed admits nobody, as it follows from the state.

    Never later than it was said once: one member's clock may be wrong, or lie.
    """
    living = state.living_members()
    if not all(one.id in state.hub_keys or one.id in state.revoked for one in living):
        return state.hub_seed_ends
    ends = now + SEED_LASTS_SECONDS if state.allocations else now
    return ends if state.hub_seed_ends is None else min(ends, state.hub_seed_ends)


def _living_guests(state: ClusterState) -> tuple[str, ...]:
    return tuple(sorted(one.id for one in state.allocations.values() if not one.status.is_terminal))


def _lives(state: ClusterState, member_id: str) -> bool:
    member = state.members.get(member_id)
    return member is not None and member.lives
