"""Small worlds for tests of services: one member, and allocations on it that are well."""

from __future__ import annotations

import msgspec

from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import PutWorkload
from tests.unit import worlds
from tests.unit.worlds import commit, founded, member, with_allocations, workload

ME = member(1)


def allocation(number: int, **changes: object) -> Allocation:
    made = worlds.allocation(
        f"hello-{number:08x}",
        placed_term=3,
        host_port=20000 + number,
        status=AllocationStatus.HEALTHY,
        reason="its sidecar says so",
    )
    return msgspec.structs.replace(made, **changes)


def world(*allocations: Allocation, service: str = "") -> ClusterState:
    state, _ = commit(founded(), PutWorkload(workload(service=service, count=len(allocations))))
    return with_allocations(state, *allocations)
