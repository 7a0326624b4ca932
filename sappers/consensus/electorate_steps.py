"""The electorate's steps of the state machine: never refused, as Raft keeps to the same entries."""

from __future__ import annotations

import msgspec

from sappers.consensus.step import Happened, Step
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import AddVoter, ElectorateCommand


def change_electorate(state: ClusterState, command: ElectorateCommand) -> Step:
    """The state with one voter more or less; the index moves even where nothing else does."""
    member_id, addresses = command.member_id, state.voter_addresses
    if isinstance(command, AddVoter):
        electorate = {*state.electorate, member_id}
        addresses = addresses.set(member_id, command.address)
        kind, verb = "voter.added", "votes from now on"
    else:
        electorate = {*state.electorate} - {member_id}
        addresses = addresses.delete(member_id) if member_id in addresses else addresses
        kind, verb = "voter.removed", "votes no more"
    changed = msgspec.structs.replace(
        state,
        electorate=tuple(sorted(electorate)),
        electorate_index=state.index,
        electorate_term=state.term,
        voter_addresses=addresses,
    )
    if electorate == {*state.electorate}:
        return changed, ()
    text = f"{_name(state, member_id)} {verb}"
    return changed, (Happened(kind, member_id, text, follows=(f"electorate/{member_id}",)),)


def _name(state: ClusterState, member_id: str) -> str:
    member = state.members.get(member_id)
    return member.name if member else member_id
