"""Small worlds for tests of services: one member, and allocations on it that are well."""

from __future__ import annotations

import msgspec

from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import PutWorkload
from tests.unit.worlds import IMAGE, commit, founded, member, workload

ME = member(1)


def allocation(number: int, **changes: object) -> Allocation:
    made = Allocation(
        id=f"hello-{number:08x}",
        workload="hello",
        revision=1,
        image=IMAGE,
        memory_mib=128,
        member_id=ME.id,
        placed_term=3,
        host_port=20000 + number,
        status=AllocationStatus.HEALTHY,
        reason="its sidecar says so",
    )
    return msgspec.structs.replace(made, **changes)


def world(*allocations: Allocation, service: str = "") -> ClusterState:
    state, _ = commit(founded(), PutWorkload(workload(service=service, count=len(allocations))))
    table = state.allocations
    for one in allocations:
        table = table.set(one.id, one)
    return msgspec.structs.replace(state, allocations=table)
