"""The state machine: committed entries in, the next state out. Pure; it never refuses by raising.

Invariant: the same entries in the same order give the same state on every member. So `apply` reads
time, ids and randomness from the entry alone, and a command that makes no sense is refused, with
its reason as the result, rather than raised. An entry that needs a format which the log has not is
refused by all, by those too that cannot read it; and who does not know the format that the log is
given goes no further.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import immutables
import msgspec

from sappers.consensus.alert_steps import apply_alert_command
from sappers.consensus.allocation_steps import (
    forget_allocation,
    place_allocation,
    report_allocation,
    stop_allocation,
)
from sappers.consensus.chain import chained
from sappers.consensus.electorate_steps import change_electorate
from sappers.consensus.image_steps import apply_image_command
from sappers.consensus.member_steps import apply_member_command
from sappers.consensus.repair_steps import apply_repair_command
from sappers.consensus.restore_steps import apply_restore_piece, without_abandoned
from sappers.consensus.step import Happened, Step
from sappers.consensus.suspicion_steps import apply_suspicion
from sappers.consensus.workload_steps import stop_workload, want_workload
from sappers.errors import CommandRefused
from sappers.model.cluster_state import REQUESTS_KEPT, ClusterState
from sappers.model.commands import (
    AdoptFormat,
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
    ReportAllocation,
    RestorePiece,
    SetHub,
    SetMemberState,
    SetSuspicion,
    StopAllocation,
    StopWorkload,
    decode_proposal,
    format_needed,
)
from sappers.model.event import Event
from sappers.model.known_types import UNREADABLE
from sappers.model.log_format import check_known
from sappers.model.member import Member, MemberState
from sappers.model.repair_commands import RepairCommand

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

    Raises:
        UpgradeNeeded: It gives the log a format that this version does not know. There is no state
            after it here.
    """
    advanced = msgspec.structs.replace(state, index=entry.index, term=entry.term)
    try:
        proposal = decode_proposal(entry.payload)
    except UNREADABLE as error:
        return advanced, Outcome(refused=f"entry {entry.index} is no proposal: {error}")
    needed = max(proposal.format, format_needed(proposal.commands))
    if needed > state.format:
        return advanced, Outcome(refused=f"it needs format {needed} of the log: {state.format} now")
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


def _adopt_format(state: ClusterState, command: AdoptFormat) -> Step:
    if command.format <= state.format:
        return state, ()
    check_known(command.format)
    text = f"the log has format {command.format}: all members know what is of it"
    return (
        msgspec.structs.replace(state, format=command.format),
        (Happened("format.adopted", state.cluster_id, text, follows=()),),
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
    PutWorkload: _timeless(want_workload),
    PutSystemWorkload: _timeless(want_workload),
    StopWorkload: _timeless(stop_workload),
    PlaceAllocation: place_allocation,
    StopAllocation: _timeless(stop_allocation),
    ReportAllocation: report_allocation,
    ForgetAllocation: _timeless(forget_allocation),
    SetHub: _timeless(_set_hub),
    AdoptFormat: _timeless(_adopt_format),
    SetSuspicion: apply_suspicion,
    RestorePiece: apply_restore_piece,
    **dict.fromkeys(get_args(ImageCommand), _timeless(apply_image_command)),
    **dict.fromkeys(get_args(ElectorateCommand), _timeless(change_electorate)),
    **dict.fromkeys(get_args(AlertCommand), apply_alert_command),
    **dict.fromkeys(get_args(RepairCommand), apply_repair_command),
    **dict.fromkeys(get_args(MemberCommand), apply_member_command),
}
