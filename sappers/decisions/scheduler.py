"""Where a new allocation goes: filter what is feasible, then the best by spread and room."""

from __future__ import annotations

import msgspec

from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member, MemberState
from sappers.model.workload import Workload

# QEMU's own memory beside the guest's; under TCG a cold 128 MiB guest needs about 300 MiB.
GUEST_OVERHEAD_MIB = 170
FIRST_SPARE_PORT = 20_000


class Placement(msgspec.Struct, frozen=True):
    """A feasible place for one more allocation, and why it is the best one."""

    member: Member
    host_port: int | None
    reason: str


class NoPlacement(msgspec.Struct, frozen=True):
    """No member can take one more allocation; `reason` says what each of them lacks."""

    reason: str


def memory_promised_mib(state: ClusterState, member_id: str) -> int:
    """Memory that live allocations on a member may use, QEMU's own included."""
    return sum(
        allocation.memory_mib + GUEST_OVERHEAD_MIB
        for allocation in state.allocations_on(member_id)
        if not allocation.status.is_terminal
    )


def place(state: ClusterState, workload: Workload, avoid: str = "") -> Placement | NoPlacement:
    """The member for one more allocation of a workload.

    Suspected members come last, before them those where it failed before; then those with fewest
    of its copies come first, then those with most free memory. None goes to `avoid` (a member id).
    """
    lacking: list[str] = []
    candidates: list[tuple[tuple[bool, int, int, int, str], Placement]] = []
    for member in state.living_members():
        if member.state is not MemberState.ALIVE:
            lacking.append(f"{member.name} is {member.state}")
            continue
        if member.id == avoid:
            lacking.append(f"{member.name} is not to run it")
            continue
        if cordon := state.cordons.get(member.id):
            lacking.append(f"{member.name} is {cordon.word}")
            continue
        free_mib = member.resources.memory_mib - memory_promised_mib(state, member.id)
        needed_mib = workload.memory_mib + GUEST_OVERHEAD_MIB
        if free_mib < needed_mib:
            lacking.append(f"{member.name} has {free_mib} MiB free of {needed_mib} MiB needed")
            continue
        mine = [a for a in state.allocations_on(member.id) if a.workload == workload.name]
        failed = sum(_failed_for(a, workload) for a in mine)
        copies = sum(not a.status.is_terminal for a in mine)
        reason = f"{free_mib} MiB free, {copies} copies there"
        placement = Placement(member, _host_port(state, member, workload), reason)
        suspected = state.suspicion(member.id) is not None
        candidates.append(((suspected, failed, copies, -free_mib, member.id), placement))
    if not candidates:
        return NoPlacement("; ".join(lacking) or "no member is alive")
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _failed_for(allocation: Allocation, workload: Workload) -> bool:
    return allocation.status is AllocationStatus.FAILED and allocation.revision == workload.revision


def _host_port(state: ClusterState, member: Member, workload: Workload) -> int | None:
    """The port asked for when it is free at the member's address, else the first spare one.

    Members that were started by hand on one machine have one address together.
    """
    if workload.guest_port is None:
        return None
    there = [one for _, one in state.members.items() if one.address == member.address]
    taken = set().union(*(one.ports.taken() for one in (member, *there))) | {
        allocation.host_port
        for one in there
        for allocation in state.allocations_on(one.id)
        if not allocation.status.is_terminal
    }
    wanted = workload.host_port or workload.guest_port
    if wanted not in taken:
        return wanted
    return next(port for port in range(FIRST_SPARE_PORT, 65_536) if port not in taken)
