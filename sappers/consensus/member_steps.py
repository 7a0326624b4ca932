"""What operators and the leader say of members, their votes and their power, as it is applied.

Who votes is decided by Raft's own configuration entries; the reasons are told here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import immutables
import msgspec

from sappers.consensus.step import Happened, Step
from sappers.decisions.forgetting import why_kept
from sappers.decisions.hub_access import when_seed_ends
from sappers.errors import CommandRefused
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    AnnounceElectorate,
    CordonMember,
    ForgetMember,
    MemberCommand,
    PutHubKey,
    ReportFencing,
    RevokeMember,
    UncordonMember,
)
from sappers.model.cordon import Cordon
from sappers.model.member import Member, MemberState

_SAID: Mapping[str, tuple[str, str]] = {
    "joins": ("electorate.joining", "is to vote"),
    "leaves": ("electorate.leaving", "is to vote no more"),
    "leads": ("electorate.leading", "is to lead"),
}


def apply_member_command(state: ClusterState, command: MemberCommand, time: float) -> Step:
    """The state after it, and what happened.

    Raises:
        CommandRefused: No such member, one that lives is said to be without power, or one is not to
            be forgotten yet.
    """
    member = state.members.get(command.member_id)
    if member is None:
        raise CommandRefused(f"no member {command.member_id}")
    match command:
        case CordonMember():
            return _cordon(state, member, Cordon(command.drain, time))
        case UncordonMember():
            return _uncordon(state, member)
        case RevokeMember():
            return _revoke(state, member, time)
        case ForgetMember():
            return _forget(state, member, command)
        case AnnounceElectorate(verb=verb, reason=reason):
            kind, said = _SAID[verb]
            text = f"{member.name} {said}: {reason}"
            return state, (Happened(kind, member.id, text, _why_it_votes_no_more(state, member)),)
        case ReportFencing():
            return _fence(state, member, command)
        case PutHubKey():
            return _put_hub_key(state, member, command, time)


def _why_it_votes_no_more(state: ClusterState, member: Member) -> tuple[str, ...]:
    """Of one that is well the log knows no cause: it is what the electorate lacks."""
    well = member.state is MemberState.ALIVE and member.id not in state.cordons
    return () if well else (f"member/{member.id}",)


def _cordon(state: ClusterState, member: Member, cordon: Cordon) -> Step:
    before = state.cordons.get(member.id)
    if before is not None and before.drain == cordon.drain:
        return state, ()
    what = "what is on it moves away" if cordon.drain else "nothing new is placed on it"
    text = f"{member.name} is {cordon.word}: {what}"
    return (
        msgspec.structs.replace(state, cordons=state.cordons.set(member.id, cordon)),
        (Happened(f"member.{cordon.word}", member.id, text, follows=()),),
    )


def _revoke(state: ClusterState, member: Member, time: float) -> Step:
    """It is drained, too: nothing that it says counts, and what was on it is wanted elsewhere."""
    if member.id in state.revoked:
        return state, ()
    drained, _ = _cordon(state, member, Cordon(drain=True, since=time))
    text = f"{member.name}'s certificate is refused from now on"
    return (
        msgspec.structs.replace(drained, revoked=state.revoked.set(member.id, time)),
        (Happened("member.revoked", member.id, text, follows=()),),
    )


def _forget(state: ClusterState, member: Member, command: ForgetMember) -> Step:
    """That its certificate is refused is remembered: it must not come back."""
    if command.gone_since not in (None, member.state_since):
        raise CommandRefused(f"{member.name} was there since")
    if reason := why_kept(state, member):
        raise CommandRefused(f"{member.name} cannot be forgotten: {reason}")
    tables = ("members", "cordons", "suspicions", "repair_logins", "hub_keys")
    changed = msgspec.structs.replace(
        state, **{name: _without(getattr(state, name), member.id) for name in tables}
    )
    text = f"{member.name}, which was {member.state}, is forgotten"
    follows = (f"state/{member.id}",)
    return changed, (Happened("member.forgotten", member.id, text, follows),)


def _without(table: immutables.Map[str, Any], key: str) -> immutables.Map[str, Any]:
    return table.delete(key) if key in table else table


def _uncordon(state: ClusterState, member: Member) -> Step:
    if member.id in state.revoked:
        raise CommandRefused(f"{member.name} is revoked: it joins again under a new id only")
    if member.id not in state.cordons:
        return state, ()
    text = f"{member.name} is used again"
    return (
        msgspec.structs.replace(state, cordons=state.cordons.delete(member.id)),
        (Happened("member.uncordoned", member.id, text, follows=()),),
    )


def _put_hub_key(state: ClusterState, member: Member, command: PutHubKey, time: float) -> Step:
    """Nothing happens that people would ask about: each member says it anew as it starts."""
    if member.id in state.revoked:
        raise CommandRefused(f"{member.name} is revoked: it joins again under a new id only")
    if state.hub_keys.get(member.id) == command.statement:
        return state, ()
    keys = state.hub_keys.set(member.id, command.statement)
    changed = msgspec.structs.replace(state, hub_keys=keys)
    ends = when_seed_ends(changed, time)
    return msgspec.structs.replace(changed, hub_seed_ends=ends), ()


def _fence(state: ClusterState, member: Member, command: ReportFencing) -> Step:
    """Only what is lost by now is known to have been there when the power went."""
    if not command.done:
        text = f"{member.name} could not be cut off from power: {command.text}"
        return state, (Happened("member.not-fenced", member.id, text),)
    if member.state not in (MemberState.DEAD, MemberState.LEFT):
        raise CommandRefused(f"{member.name} is {member.state}, it cannot be without power")
    if command.dead_since not in (None, member.state_since):
        raise CommandRefused(f"{member.name} was cut off from power for an earlier death")
    allocations = state.allocations
    for allocation in state.allocations_on(member.id):
        if allocation.status is AllocationStatus.LOST and not allocation.fenced:
            fenced = msgspec.structs.replace(allocation, fenced=True)
            allocations = allocations.set(allocation.id, fenced)
    text = f"{member.name} is cut off from power: {command.text}"
    return (
        msgspec.structs.replace(state, allocations=allocations),
        (Happened("member.fenced", member.id, text),),
    )
