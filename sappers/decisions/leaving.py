"""Whether an agent that is stopped leaves the cluster, or is just away. Pure."""

from __future__ import annotations

from sappers.model.cluster_state import ClusterState


def may_leave(state: ClusterState, member_id: str) -> bool:
    """Whether it was drained and nothing of the cluster is on it any more.

    Such a member says goodbye: it is `left` at once, not suspected, dead and worth a repair. If it
    comes back it is alive again, and drained still.
    """
    cordon = state.cordons.get(member_id)
    return (
        cordon is not None
        and cordon.drain
        and member_id not in state.electorate
        and member_id not in state.hub_servers
        and all(one.status.is_terminal for one in state.allocations_on(member_id))
    )
