"""The steps of the state machine for copies of workloads, from placement to their end. Pure."""

from __future__ import annotations

import msgspec

from sappers.consensus.step import Happened, Step
from sappers.decisions.fencing import places_free
from sappers.errors import CommandRefused
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    ForgetAllocation,
    PlaceAllocation,
    ReportAllocation,
    StopAllocation,
)
from sappers.model.workload import Workload


def place_allocation(state: ClusterState, command: PlaceAllocation, time: float) -> Step:
    """Place a copy.

    Raises:
        CommandRefused: What the leader decided by is not so any more.
    """
    allocation = msgspec.structs.replace(command.allocation, changed_at=time)
    if allocation.id in state.allocations:
        return state, ()
    workload = state.workloads.get(allocation.workload)
    if allocation.repair:
        raise CommandRefused(f"{allocation.id}: a healer is placed by its repair alone")
    if workload is None or workload.revision != allocation.revision:
        raise CommandRefused(f"{allocation.id}: its workload has changed since")
    member = state.members.get(allocation.member_id)
    if member is None or not member.lives:
        raise CommandRefused(f"{allocation.id}: member {allocation.member_id} is gone")
    if cordon := state.cordons.get(member.id):
        raise CommandRefused(f"{allocation.id}: {member.name} is {cordon.word}")
    _require_place(state, workload, command)
    text = f"{allocation.id} placed on {member.name}: {command.reason}"
    follows = (*_why_replaced(state, allocation.replaces), f"workload/{workload.name}")
    return (
        _with_allocation(state, allocation),
        (Happened("allocation.placed", allocation.id, text, follows),),
    )


def stop_allocation(state: ClusterState, command: StopAllocation) -> Step:
    """Let a copy end.

    Raises:
        CommandRefused: There is no such allocation.
    """
    allocation = _known_allocation(state, command.allocation_id)
    if not allocation.wanted:
        return state, ()
    text = f"{allocation.id} is to stop: {command.reason}"
    cordon = state.cordons.get(allocation.member_id)
    if allocation.repair:
        owner = f"repair/{allocation.repair}"
    elif cordon is not None and cordon.drain and allocation.workload in state.workloads:
        owner = f"member/{allocation.member_id}"
    else:
        owner = f"workload/{allocation.workload}"
    return (
        _with_allocation(state, msgspec.structs.replace(allocation, wanted=False)),
        (Happened("allocation.stopping", allocation.id, text, follows=(owner,)),),
    )


def report_allocation(state: ClusterState, command: ReportAllocation, time: float) -> Step:
    """What became of a copy; one that has ended stays so.

    Raises:
        CommandRefused: There is no such allocation, or it has ended otherwise.
    """
    before = _known_allocation(state, command.allocation_id)
    if before.status.is_terminal:
        if before.status is command.status:
            return state, ()
        raise CommandRefused(f"{before.id} is {before.status} already")
    after = msgspec.structs.replace(
        before, status=command.status, reason=command.reason, restarts=command.restarts
    )
    if after == before:
        return state, ()
    if after.status is before.status and after.restarts == before.restarts:
        return _with_allocation(state, after), ()
    after = msgspec.structs.replace(after, changed_at=time)
    text = f"{after.id} is {after.status}: {after.reason}"
    # A healer's allocation begins with its repair's event and has no earlier one of its own.
    follows: tuple[str, ...] = (f"allocation/{after.id}", f"repair/{after.repair}")
    if after.status is AllocationStatus.LOST:
        follows = (f"state/{after.member_id}", *follows)
    return (
        _with_allocation(state, after),
        (Happened(f"allocation.{after.status}", after.id, text, follows),),
    )


def forget_allocation(state: ClusterState, command: ForgetAllocation) -> Step:
    """Know a copy no more that has ended.

    Raises:
        CommandRefused: It has not.
    """
    allocation = state.allocations.get(command.allocation_id)
    if allocation is None:
        return state, ()
    if not allocation.status.is_terminal:
        raise CommandRefused(f"{allocation.id} is {allocation.status}, not ended")
    return (
        msgspec.structs.replace(state, allocations=state.allocations.delete(allocation.id)),
        (),
    )


def _require_place(state: ClusterState, workload: Workload, command: PlaceAllocation) -> None:
    """Two plans may be in the log that knew nothing of each other, of one leader or of two."""
    if not workload.exclusive:
        return
    ended = command.ended
    if ended is None:  # then only what has not ended counted
        ended = tuple(one.id for one in state.allocations_of(workload.name))
    if not places_free(state, workload, ended):
        placed = command.allocation.id
        raise CommandRefused(
            f"{placed}: {workload.count} of exclusive {workload.name} may run already"
        )


def _why_replaced(state: ClusterState, allocation_id: str) -> tuple[str, ...]:
    """What ended an allocation; of one that still runs, what was decided about its member."""
    before = state.allocations.get(allocation_id)
    if before is None or before.status.is_terminal:
        return (f"allocation/{allocation_id}",)
    return (f"member/{before.member_id}",)


def _known_allocation(state: ClusterState, allocation_id: str) -> Allocation:
    allocation = state.allocations.get(allocation_id)
    if allocation is None:
        raise CommandRefused(f"no allocation {allocation_id}")
    return allocation


def _with_allocation(state: ClusterState, allocation: Allocation) -> ClusterState:
    return msgspec.structs.replace(
        state, allocations=state.allocations.set(allocation.id, allocation)
    )
