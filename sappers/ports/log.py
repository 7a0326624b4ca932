"""The replicated log, and what is recorded of its events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry, Proposal
from sappers.model.event import Event, EventCheck, EventFilter, Story
from sappers.model.observation import RaftStatus


class Applied(msgspec.Struct, frozen=True):
    """A proposal is committed and applied.

    Attributes:
        refused: Why the state machine refused it, or empty when it took effect.
    """

    index: int
    term: int
    refused: str = ""


class QuorumHeard(msgspec.Struct, frozen=True):
    """The quorum has answered its leader.

    Attributes:
        index, term: Of the newest entry that it had, after it was asked.
    """

    index: int
    term: int = 0


class ReplicatedLog(Protocol):
    """The log and the state it leads to. Voters and followers have one each (`consensus/`)."""

    async def start(self) -> None:
        """Begin; returns once the last local state is loaded.

        Raises:
            LogDamaged: A file cannot be trusted; says which and what to do.
        """

    async def stop(self) -> None:
        """End, with nothing acknowledged left unsynced."""

    def state(self) -> ClusterState:
        """This member's replica; an immutable value."""

    def status(self) -> RaftStatus:
        """Role, term, leader and indexes as last heard."""

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        """Commit a proposal; only the leader can.

        Raises:
            ProposalRejected: Definitely not committed (not the leader, queue full, too large).
            OutcomeUnknown: May or may not have been committed; retry with the same request id.
        """

    async def read_barrier(self, timeout_seconds: float) -> QuorumHeard:
        """Return once `state()` is at least as new as this call (linearizable).

        Raises:
            ProposalRejected, OutcomeUnknown: As `propose`.
        """

    def state_age(self) -> float | None:
        """Seconds since `state()` was as new as the cluster's; None where that is not known.

        Of a member that is cut off it grows; what it says of the present may be as old as that.
        """

    async def add_voter(
        self, member_id: str, address: str, timeout_seconds: float, by: str = ""
    ) -> Applied:
        """Give a member a Raft vote; only the leader can, one change at a time.

        When this returns the change is committed and `state().electorate` says so. Only then may
        the member start its raft process, with `consensus.joining.joiners_record`. Adding a voter
        that is one changes nothing.

        Args:
            address: Where its Raft will listen, `ip:port`.
            by: Who wants it, as in a proposal; this member itself where it is empty.

        Raises:
            ProposalRejected: Definitely not done: not the leader, or another change is under way.
            OutcomeUnknown: May or may not be done: see `state().electorate`, or ask again.
        """

    async def remove_voter(self, member_id: str, timeout_seconds: float, by: str = "") -> Applied:
        """Take a member's vote; only the leader can, one change at a time, not its own.

        The one removed is told, when it can be reached: then `status().is_removed` there. `by`: as
        in `add_voter`.

        Raises:
            ProposalRejected: As `add_voter`; also when the others have no quorum that answers.
            OutcomeUnknown: As `add_voter`.
        """

    async def recover_alone(self, timeout_seconds: float, by: str = "") -> Applied:
        """Go on as the only voter, the others being gone for good; what was not committed yet is.

        A voter that has just started listens for 5 s first, and any for as long as leases last:
        beyond the timeout. `by` as in `add_voter`.

        Raises:
            ProposalRejected: It hears a leader or a majority, or has no vote.
            OutcomeUnknown: See `state().electorate`, or ask again.
        """

    async def transfer_leadership(self, member_id: str, timeout_seconds: float) -> None:
        """Make another voter the leader; returns once it is. Proposals meanwhile are rejected.

        Raises:
            ProposalRejected: Not the leader, no such voter, or it did not catch up in time.
            OutcomeUnknown: It was asked to lead, and who leads is not known.
        """

    def entries_after(self, index: int, limit: int) -> Sequence[Entry] | None:
        """Committed entries that follow `index`, at most `limit`; None when compacted away."""

    def events_after(self, number: int) -> tuple[Event, ...]:
        """Events after a number, oldest first, as far back as this member can tell.

        For the one that writes them down: those up to the number need not be told again.
        """

    async def snapshot(self) -> bytes:
        """The state, encoded for `ClusterState` replicas elsewhere."""

    async def written_snapshot(self) -> bytes:
        """The newest snapshot on disk, where the entries after it are kept here; else `snapshot`.

        Who starts from it fetches those entries: the log after a snapshot is as true as the state.
        """

    async def trigger_snapshot(self) -> int:
        """Compact the log to disk now; the index it covers."""

    def changes(self) -> AsyncIterator[None]:
        """Yields whenever `state()` or `status()` may differ."""


class FollowingLog(ReplicatedLog, Protocol):
    """The log of a member without a vote: fed by the agent, gaps filled by itself."""

    async def begin_at(self, state: ClusterState) -> None:
        """Begin with a state that this member has; of no effect where it is not newer."""

    async def feed(self, entry: Entry) -> None:
        """A committed entry as the hub brought it; repeated and out of order is fine."""

    async def heard(
        self, index: int, term: int, leader_id: str | None, as_of: float | None = None
    ) -> None:
        """How far the cluster is, by a heartbeat or a voter's word; fetches what is missing.

        Args:
            as_of: A moment of the event loop's clock before which nothing was committed beyond
                `index`; None where no moment is known.
        """


class EventRecord(Protocol):
    """This member's own record of events, in files (`agent/`)."""

    async def read(self, wanted: EventFilter, limit: int) -> tuple[Event, ...]:
        """Events that match, oldest first: the oldest of them, or the newest; see the filter."""

    async def take_older(self, events: Sequence[Event]) -> int:
        """Write down events from before this record: those that lead to it, as far as it keeps any.

        Returns:
            Number of the event from which on nothing is missing.

        Raises:
            OSError: The disk refuses.
        """

    async def check(self) -> EventCheck:
        """Whether the record is whole, and what to compare with others'."""

    async def explain(self, name: str) -> Story | None:
        """What led to how a workload, member, allocation or repair is; None if never heard of."""
