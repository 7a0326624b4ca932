"""What a guest may say and hear on the hub, by the state alone."""

from __future__ import annotations

from sappers.model.cluster_state import ClusterState
from sappers.model.guest_scope import GuestScope


def scope_of(state: ClusterState, allocation_id: str) -> GuestScope | None:
    """The scope of an allocation's guest; None where there should be no such guest."""
    allocation = state.allocations.get(allocation_id)
    if allocation is None or not allocation.wanted or allocation.status.is_terminal:
        return None
    workload = state.workloads.get(allocation.workload)
    if workload is None:
        return GuestScope(allocation_id, allocation.workload)
    return GuestScope(allocation_id, workload.name, workload.links, workload.role)
