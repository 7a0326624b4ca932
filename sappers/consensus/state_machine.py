"""The state machine: committed entries in, the next state out. Pure; it never raises.

Invariant: the same entries in the same order give the same state on every member. So `apply` reads
time, ids and randomness from the entry alone, and a command that makes no sense is refused, with
its reason as the result, rather than raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import immutables
import msgspec

from sappers.consensus.alert_steps import apply_alert_command
from sappers.consensus.chain import chained
from sappers.consensus.electorate_steps import change_electorate
from sappers.consensus.image_steps import apply_image_command, require_image
from sappers.consensus.member_steps import apply_member_command
from sappers.consensus.repair_steps import apply_repair_command
from sappers.consensus.restore_steps import (
    apply_restore_piece,
    forget_restored,
    without_abandoned,
)
from sappers.consensus.step import Happened, Step
from sappers.consensus.suspicion_steps import apply_suspicion
from sappers.decisions.fencing import places_free
from sappers.errors import CommandRefused
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import REQUESTS_KEPT, ClusterState
from sappers.model.commands import (
    AlertCommand,
    ElectorateCommand,
    Entry,
    ForgetAllocation,
    FoundCluster,
    ImageCommand,
    MemberCommand,
    NoOperation,
    PlaceAllocation,
    Proposal,
    PutSystemWorkload,
    PutWorkload,
    RegisterMember,
    RepairCommand,
    ReportAllocation,
    RestorePiece,
    SetHub,
    SetMemberState,
    SetSuspicion,
    StopAllocation,
    StopWorkload,
    decode_proposal,
)
from sappers.model.event import Event
from sappers.model.member import Member, MemberState
from sappers.model.workload import Workload

_ApplyCommand = Callable[[ClusterState, Any, float], Step]  # with the time of the proposal


class Outcome(msgspec.Struct, frozen=True):
    """What an entry did.

    Attributes:
        refused: Why it changed nothing, or empty.
        events: What it made happen; the newest of the state's events.
    """

    refused: str = ""
    events: tuple[Event, ...] = ()


def apply(state: ClusterState, entry: Entry) -> tuple[ClusterState, Outcome]:
    """The state after a committed entry, and what happened.

    An entry takes effect as a whole or not at all. One that was applied before (same request id),
    that a leader decided in another term, or that is refused changes only the index.
    """
    advanced = msgspec.structs.replace(state, index=entry.index, term=entry.term)
    try:
        proposal = decode_proposal(entry.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return advanced, Outcome(refused=f"entry {entry.index} is no proposal: {error}")
    if not math.isfinite(proposal.time):
        return advanced, Outcome(refused=f"{proposal.time} is no time")
    if proposal.request_id in state.requests or proposal.request_id in state.older_requests:
        return advanced, Outcome()
    if proposal.leader_term is not None and proposal.leader_term != entry.term:
        return advanced, Outcome(
            refused=f"decided in term {proposal.leader_term}, committed in term {entry.term}"
        )
    try:
        changed, happened = _apply_all(without_abandoned(advanced, proposal.time), proposal)
    except CommandRefused as refusal:
        return advanced, Outcome(refused=refusal.message)
    changed, events = chained(changed, entry, proposal, happened)
    if all(isinstance(command, NoOperation) for command in proposal.commands):
        return changed, Outcome(events=events)  # reads ask so, too many to remember
    return _remembering(changed, proposal.request_id), Outcome(events=events)


def _apply_all(state: ClusterState, proposal: Proposal) -> Step:
    happened: tuple[Happened, ...] = ()
    for command in proposal.commands:
        state, more = _STEPS[type(command)](state, command, proposal.time)
        happened += more
    return state, happened


def _found(state: ClusterState, command: FoundCluster) -> Step:
    if state.cluster_id:
        if state.cluster_id == command.cluster_id:
            return state, ()
        raise CommandRefused(f"the cluster is {state.cluster_id} already")
    text = f"cluster founded by {len(command.electorate)} voters"
    return (
        msgspec.structs.replace(
            state,
            cluster_id=command.cluster_id,
            electorate=command.electorate,
            electorate_index=state.index,
            electorate_term=state.term,
            image_keys=command.image_keys,
        ),
        (Happened("cluster.founded", command.cluster_id, text, follows=()),),
    )


def _register(state: ClusterState, command: RegisterMember) -> Step:
    member = command.member
    before = state.members.get(member.id)
    if before == member:
        return state, ()
    if before is None and member.id in state.revoked:
        raise CommandRefused(f"{member.name} is revoked: it joins again under a new id only")
    changed = msgspec.structs.replace(state, members=state.members.set(member.id, member))
    if before is None:
        text = f"{member.name} joined from {member.address}"
        return changed, (Happened("member.joined", member.id, text, follows=()),)
    if before.address != member.address:
        text = f"{member.name} moved from {before.address} to {member.address}"
        return changed, (Happened("member.moved", member.id, text, follows=()),)
    text = f"{member.name} changed"
    return changed, (Happened("member.changed", member.id, text, follows=()),)


def _set_member_state(state: ClusterState, command: SetMemberState, time: float) -> Step:
    member = state.members.get(command.member_id)
    if member is None:
        raise CommandRefused(f"no member {command.member_id}")
    if member.state is command.state:
        return state, ()
    changed = msgspec.structs.replace(member, state=command.state, state_since=time)
    text = f"{member.name} is {command.state}: {command.reason}"
    return (
        msgspec.structs.replace(state, members=state.members.set(member.id, changed)),
        (
            Happened(
                f"member.{command.state}",
                member.id,
                text,
                _why_state(state, member),
                also=(f"state/{member.id}",),
            ),
        ),
    )


def _why_state(state: ClusterState, member: Member) -> tuple[str, ...]:
    """A repair brings a member back; else only one that was not well has a history to follow."""
    if member.state is MemberState.ALIVE:
        return ()
    repair = state.open_repair(member.id)
    worked_on = repair is not None and repair.attempt > 0
    return (f"repair/{repair.id}",) if repair and worked_on else (f"state/{member.id}",)


def _put_workload(state: ClusterState, workload: Workload) -> Step:
    before = state.workloads.get(workload.name)
    revision = before.revision if before else 0
    current = msgspec.structs.replace(workload, revision=revision)
    if before == current:
        return state, ()
    require_image(state, workload)
    if before is None or not _same_guests(before, current):
        current = msgspec.structs.replace(workload, revision=state.index)
    kind, verb = ("workload.changed", "changed") if before else ("workload.created", "created")
    text = f"{workload.name} {verb}: {workload.count} × {workload.image.name}"
    return (
        msgspec.structs.replace(state, workloads=state.workloads.set(workload.name, current)),
        (Happened(kind, workload.name, text, follows=()),),
    )


def _want_workload(state: ClusterState, command: PutWorkload | PutSystemWorkload) -> Step:
    """What an operator has stopped, or runs under the same name, is the operator's alone."""
    workload = command.workload
    if isinstance(command, PutWorkload):
        state, happened = _put_workload(_allowed_again(state, workload.name), workload)
        return forget_restored(state) if happened else state, happened
    before = state.workloads.get(workload.name)
    if workload.name in state.stopped_by_hand:
        raise CommandRefused(f"an operator stopped {workload.name}")
    if before is not None and before.role != workload.role:
        raise CommandRefused(f"{workload.name} is an operator's own workload")
    return _put_workload(state, workload)


def _allowed_again(state: ClusterState, name: str) -> ClusterState:
    """The state once an operator has asked for a workload."""
    if name not in state.stopped_by_hand:
        return state
    others = tuple(one for one in state.stopped_by_hand if one != name)
    return msgspec.structs.replace(state, stopped_by_hand=others)


def _same_guests(before: Workload, after: Workload) -> bool:
    """Whether copies that run may go on: there are to be more or fewer, or found by another name.

    What guests may call (`links`) is in the credentials that they started with: it replaces them.
    """
    moved = msgspec.structs.replace(before, count=after.count, service=after.service)
    return moved == after


def _stop_workload(state: ClusterState, command: StopWorkload) -> Step:
    name = command.name
    workload = state.workloads.get(name)
    if workload is None:
        raise CommandRefused(f"no workload {name}")
    if workload.role != "application":
        stopped = tuple(sorted({*state.stopped_by_hand, name}))
        state = msgspec.structs.replace(state, stopped_by_hand=stopped)
    state = forget_restored(state)
    return (
        msgspec.structs.replace(state, workloads=state.workloads.delete(name)),
        (Happened("workload.stopped", name, f"{name} is wanted no more", follows=()),),
    )


def _place(state: ClusterState, command: PlaceAllocation, time: float) -> Step:
    allocation = msgspec.structs.replace(command.allocation, changed_at=time)
    if allocation.id in state.allocations:
        return state, ()
    workload = state.workloads.get(allocation.workload)
    if allocation.repair:
        raise CommandRefused(f"{allocation.id}: a healer is placed by its repair alone")
    if workload is None or workload.revision != allocation.revision:
        raise CommandRefused(f"{allocation.id}: its workload has changed since")
    member = state.members.get(allocation.member_id)
    if member is None or member.state in (MemberState.DEAD, MemberState.LEFT):
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


def _stop_allocation(state: ClusterState, command: StopAllocation) -> Step:
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


def _report(state: ClusterState, command: ReportAllocation, time: float) -> Step:
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


def _forget(state: ClusterState, command: ForgetAllocation) -> Step:
    allocation = state.allocations.get(command.allocation_id)
    if allocation is None:
        return state, ()
    if not allocation.status.is_terminal:
        raise CommandRefused(f"{allocation.id} is {allocation.status}, not ended")
    return (
        msgspec.structs.replace(state, allocations=state.allocations.delete(allocation.id)),
        (),
    )


def _set_hub(state: ClusterState, command: SetHub) -> Step:
    servers = command.servers
    unknown = [server for server in servers if server not in state.members]
    if unknown:
        raise CommandRefused(f"no member {', '.join(unknown)}")
    if servers == state.hub_servers:
        return state, ()
    names = ", ".join(state.members[server].name for server in servers)
    changed = sorted({*servers} ^ {*state.hub_servers})
    follows = (*(f"voter/{one}" for one in changed), f"cluster/{state.cluster_id}")
    return (
        msgspec.structs.replace(state, hub_servers=servers, hub_term=state.term),
        (Happened("hub.changed", state.cluster_id, f"the hub runs on {names}", follows),),
    )


def _known_allocation(state: ClusterState, allocation_id: str) -> Allocation:
    allocation = state.allocations.get(allocation_id)
    if allocation is None:
        raise CommandRefused(f"no allocation {allocation_id}")
    return allocation


def _with_allocation(state: ClusterState, allocation: Allocation) -> ClusterState:
    return msgspec.structs.replace(
        state, allocations=state.allocations.set(allocation.id, allocation)
    )


def _remembering(state: ClusterState, request_id: str) -> ClusterState:
    """Old ones go all at once, as a table: to look for them among all would take a while."""
    requests = state.requests.set(request_id, state.index)
    if len(requests) < REQUESTS_KEPT:
        return msgspec.structs.replace(state, requests=requests)
    return msgspec.structs.replace(state, requests=immutables.Map(), older_requests=requests)


def _timeless(step: Callable[[ClusterState, Any], Step]) -> _ApplyCommand:
    return lambda state, command, _: step(state, command)


_STEPS: Mapping[type, _ApplyCommand] = {
    NoOperation: _timeless(lambda state, _: (state, ())),
    FoundCluster: _timeless(_found),
    RegisterMember: _timeless(_register),
    SetMemberState: _set_member_state,
    PutWorkload: _timeless(_want_workload),
    PutSystemWorkload: _timeless(_want_workload),
    StopWorkload: _timeless(_stop_workload),
    PlaceAllocation: _place,
    StopAllocation: _timeless(_stop_allocation),
    ReportAllocation: _report,
    ForgetAllocation: _timeless(_forget),
    SetHub: _timeless(_set_hub),
    SetSuspicion: apply_suspicion,
    RestorePiece: apply_restore_piece,
    **dict.fromkeys(get_args(ImageCommand), _timeless(apply_image_command)),
    **dict.fromkeys(get_args(ElectorateCommand), _timeless(change_electorate)),
    **dict.fromkeys(get_args(AlertCommand), apply_alert_command),
    **dict.fromkeys(get_args(RepairCommand), apply_repair_command),
    **dict.fromkeys(get_args(MemberCommand), apply_member_command),
}
