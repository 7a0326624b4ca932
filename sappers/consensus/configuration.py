"""The configuration: whose votes count, as the log says.

A change is a log entry of its own type whose payload is a proposal like any other, so the state
machine applies it too: `ClusterState.electorate` is the configuration, and a snapshot holds it.

Invariant: a change takes effect once it is committed, and of two voters none is more than one
change behind the other that holds its entries. A leader appends a change only when the one before
is applied; so whoever holds two that are not applied yet knows that the first is committed, and
uses it. Majorities of neighbouring configurations overlap, since one voter is added or removed at
a time. ADR 23 has the proof.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sappers.consensus.journal import LogEntry
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import AddVoter, RemoveVoter, decode_proposal
from sappers.model.entry_place import EntryPlace
from sappers.model.view import Genesis


class Configuration(msgspec.Struct, frozen=True):
    """Whose votes count.

    Attributes:
        voters: Sorted ids.
        at: The entry that made it so.
    """

    voters: tuple[str, ...]
    at: EntryPlace

    def after(self, change: LogEntry) -> Configuration:
        """The configuration once an entry is committed that changes it."""
        voters = set(self.voters)
        for command in decode_proposal(change[0][1:]).commands:
            if isinstance(command, AddVoter):
                voters.add(command.member_id)
            elif isinstance(command, RemoveVoter):
                voters.discard(command.member_id)
        return Configuration(tuple(sorted(voters)), EntryPlace(change[1], change[2]))


def configuration_now(
    genesis: Genesis, state: ClusterState, changes: Sequence[LogEntry]
) -> Configuration:
    """The one in force.

    Args:
        genesis: What this voter was started with.
        changes: The entries that change it and that `state` does not include yet.
    """
    now = Configuration(tuple(sorted(genesis.voters)), genesis.given_at)
    if state.electorate and not now.at.is_after(state.electorate_at):
        now = Configuration(tuple(sorted(state.electorate)), state.electorate_at)
    for change in changes[:-1]:  # that another one follows says that it is committed
        if EntryPlace(change[1], change[2]).is_after(now.at):
            now = now.after(change)
    return now
