"""pysyncobj's Raft, made safe: a subclass that mends what the library leaves open.

Invariants:
- Nothing is acknowledged, voted or counted before it is on disk; an acknowledgement counts in the
  term that it was given in alone.
- A follower drops an entry only when the leader of its term has another one at that index.
- An election begins only after a majority said that it would vote (pre-vote), so a member that was
  cut off cannot unseat a leader that works.
- Every index is applied exactly once, in order, by `state_machine.apply`; nothing a command or a
  listener does can stop the log.
The overrides use private names of one version; see library.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import structlog
from pysyncobj import SyncObj
from pysyncobj.monotonic import monotonic  # not quite the clock of time.monotonic
from pysyncobj.node import Node

from sappers.config import RaftSettings
from sappers.consensus.journal import Journal, LogEntry
from sappers.consensus.library import QUEUE_LENGTH, library_settings
from sappers.consensus.snapshot import Snapshot, SnapshotStore, join
from sappers.consensus.state_machine import Outcome, apply
from sappers.errors import LogDamaged
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry
from sappers.model.observation import RaftRole, RaftStatus

_log = structlog.get_logger()

_REGULAR = b"\x00"  # pysyncobj's _COMMAND_TYPE, the first byte of each command
_ROLES = (RaftRole.FOLLOWER, RaftRole.CANDIDATE, RaftRole.LEADER)  # pysyncobj's _RAFT_STATE
_LEADER = 2
_UNHEARD_SECONDS = 2
_ASK_AFTER_LOSS_SECONDS = (0.05, 0.25)


class PeerLinks(Protocol):
    """What the layer needs of its transport beside pysyncobj's Transport."""

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        """Send one message to one voter if it is connected."""

    def has_room(self, node: Any) -> bool:
        """Whether little is still to be sent to a voter."""


class Listener(Protocol):
    """Whoever wants to know what is committed; must not raise."""

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """The state was replaced by a leader's snapshot."""

    def on_applied(self, entry: Entry) -> None:
        """The entry is committed and applied."""


class Answer(Protocol):
    """How the proposer of an entry hears of it; exactly one of these is called."""

    def done(self, index: int, term: int, refused: str) -> None:
        """Committed and applied."""

    def rejected(self, reason: str) -> None:
        """Definitely not committed."""

    def unknown(self, reason: str) -> None:
        """Covered by a snapshot that does not tell."""


class RaftNode(SyncObj):  # type: ignore[misc] # the library has no types
    """One voter. Single-threaded: `tick` and the transport's callbacks run in one event loop.

    Attributes:
        state: The replicated state, an immutable value; set after the library's constructor, as
            what is set then is what the library snapshots.
    """

    def __init__(
        self,
        me_id: str,
        voters: Sequence[str],
        journal: Journal,
        snapshots: SnapshotStore,
        transport: Any,
        settings: RaftSettings,
        listener: Listener,
    ) -> None:
        self._journal = journal
        self._snapshots = snapshots
        self._links: PeerLinks = transport
        self._settings = settings
        self._listener = listener
        self._voters = tuple(sorted(voters))
        self._acks: dict[Any, dict[str, Any]] = {}
        self._ack_limit: int | None = None
        self._proposals: list[tuple[bytes, Answer]] = []
        self._waiting: dict[int, tuple[int, Answer]] = {}
        self._pre_votes: set[str] = set()
        self._leader_heard_at = 0.0
        self._told_commit_index = 0
        self._announced = (0, 0)
        self._snapshot_waiters: list[Callable[[int], None]] = []
        join(journal, snapshots.loaded)
        super().__init__(
            Node(me_id),
            [Node(voter) for voter in voters if voter != me_id],
            conf=library_settings(settings, journal, snapshots),
            transport=transport,
        )
        self._SyncObj__needLoadDumpFile = False  # done below; the library would serve empty
        self.state = ClusterState(index=1)
        if snapshots.loaded is not None:
            self._take_state(snapshots.loaded)
        snapshots.newest_useful = lambda: int(self.raftLastApplied)
        snapshots.has_room = self._links.has_room

    # What the process calls

    def tick(self) -> bool:
        """Do what time and messages ask for; whether another tick should follow at once."""
        self._settle()
        if self._election_is_due():
            if self._majority_would_vote():
                self._pre_votes.clear()  # the library begins the election below
            else:
                self._ask_for_pre_votes()
        self._onTick(0.0)
        self._tell_snapshot_waiters()
        standing = (self._last[1], self.raftCommitIndex)
        if self._isLeader() and standing != self._announced:
            self._SyncObj__sendAppendEntries()
        return self._settle()

    def seconds_until_due(self) -> float:
        """When `tick` has something to do again if nothing comes in; few wake-ups save power."""
        if self._snapshots.busy:
            return self._settings.tick_seconds
        is_leader = self._isLeader()
        due = self._SyncObj__newAppendEntriesTime if is_leader else self._deadline
        wait: float = due - monotonic() + 0.001
        return min(max(wait, 0.001), self._settings.append_entries_seconds)

    def propose(self, payload: bytes, answer: Answer) -> None:
        """Append an entry at the next tick, if this voter leads."""
        if len(payload) > self._settings.max_command_bytes:
            answer.rejected(
                f"{len(payload)} bytes, at most {self._settings.max_command_bytes} fit in an entry"
            )
        elif len(self._proposals) + len(self._waiting) >= QUEUE_LENGTH:
            answer.rejected(f"{QUEUE_LENGTH} proposals are waiting already")
        else:
            self._proposals.append((payload, answer))

    def take_snapshot(self, taken: Callable[[int], None]) -> None:
        """Compact now; `taken` hears the index that the durable snapshot stands at."""
        self.forceLogCompaction()
        self._snapshot_waiters.append(taken)

    def status(self) -> RaftStatus:
        """Role, term, leader and indexes now."""
        leader = self._getLeader()
        return RaftStatus(
            role=_ROLES[self._SyncObj__raftState],
            term=self.raftCurrentTerm,
            leader_id=leader.id if leader is not None else None,
            commit_index=self._known_commit_index(),
            applied_index=self.raftLastApplied,
            electorate=self._voters,
            unheard=self._unheard() if self._isLeader() else {},
            snapshot_index=self._snapshots.index,
        )

    def _unheard(self) -> dict[str, int]:
        """Whole seconds, of voters that have said nothing for a while; by id."""
        now = monotonic()
        heard = {
            node.id: int(now - at)
            for node, at in self._SyncObj__lastResponseTime.items()
            if node in self.otherNodes
        }
        return {voter: silent for voter, silent in heard.items() if silent >= _UNHEARD_SECONDS}

    def _known_commit_index(self) -> int:
        """What must be applied here before this voter's state is as new as the cluster's.

        A follower that lags has its leader's word for it; a leader has not, before its own first
        entry is committed.
        """
        first: int = (self._isLeader() and self._SyncObj__noopIDx) or 0
        return max(int(self.raftCommitIndex), self._told_commit_index, first)

    # Durability: sync, then tell

    def _settle(self) -> bool:
        synced = self._journal.sync()
        acks, self._acks = self._acks, {}
        for node, ack in acks.items():
            if ack["term"] == self.raftCurrentTerm:
                self._links.send(node, ack)
        return synced

    def _SyncObj__sendNextNodeIdx(  # noqa: N802
        self,
        node: Any,
        reset: bool = False,  # noqa: FBT001, FBT002
        nextNodeIdx: int | None = None,  # noqa: N803
        success: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        next_index = self._last[1] + 1 if nextNodeIdx is None else nextNodeIdx
        if success and self._ack_limit is not None:
            next_index = min(next_index, self._ack_limit)
        ack = {
            "type": "next_node_idx",
            "term": self.raftCurrentTerm,
            "next_node_idx": next_index,
            "reset": reset,
            "success": success,
        }
        if success:
            self._acks[node] = ack
        else:
            self._links.send(node, ack)

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        super()._SyncObj__onBecomeLeader()
        self._journal.sync()
        _log.info("leads", term=self.raftCurrentTerm, index=self._last[1])

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        super()._SyncObj__sendAppendEntries()
        self._announced = (self._last[1], self.raftCommitIndex)

    # Messages

    def _SyncObj__onNodeDisconnected(self, node: Any) -> None:  # noqa: N802
        super()._SyncObj__onNodeDisconnected(node)
        if node == self._getLeader():
            # Perhaps it died: ask soon. Whoever still hears it says no.
            soon = monotonic() + random.uniform(*_ASK_AFTER_LOSS_SECONDS)
            self._deadline = min(self._deadline, soon)

    def _SyncObj__onMessageReceived(self, node: Any, message: dict[str, Any]) -> None:  # noqa: N802
        match message["type"]:
            case "pre_vote":
                self._consider_pre_vote(node, message)
                return
            case "pre_vote_granted":
                self._count_pre_vote(node, message["term"])
                return
            case "newer_term":
                self._adopt_term(message["term"])
                return
            case "next_node_idx":
                if message["term"] != self.raftCurrentTerm:
                    return
                message["next_node_idx"] = min(message["next_node_idx"], self._last[1] + 1)
            case "append_entries":
                if message["term"] < self.raftCurrentTerm:
                    self._links.send(node, {"type": "newer_term", "term": self.raftCurrentTerm})
                    return
                self._leader_heard_at = monotonic()
                self._told_commit_index = max(self._told_commit_index, message["commit_index"])
                self._pre_votes.clear()
                self._keep_what_matches(message)
                if "serialized" in message:  # answered by the library only when it is complete
                    self._SyncObj__sendNextNodeIdx(node)
        try:
            super()._SyncObj__onMessageReceived(node, message)
        finally:
            self._ack_limit = None

    def _keep_what_matches(self, message: dict[str, Any]) -> None:
        """Make the library see new entries only: it cuts the log after the previous entry.

        What is known to match the leader's log limits the acknowledgement and the commit index.
        """
        if "serialized" in message:
            message["commit_index"] = min(message["commit_index"], self.raftCommitIndex)
            return
        first, last = self._journal[0][1], self._last[1]
        matched, entries = message["prevLogIdx"], message["entries"]
        if matched is None or not first <= matched <= last:
            return
        if self._journal[matched - first][2] != message["prevLogTerm"]:
            return
        for position, (_, index, term) in enumerate(entries, 1):
            if index != message["prevLogIdx"] + position:
                raise ValueError(f"entry {index} does not follow the one before it")
            if matched == index - 1 and index <= last and self._journal[index - first][2] == term:
                matched = index
        fresh = entries[matched - message["prevLogIdx"] :]
        if not fresh:  # all held already, and perhaps more that the leader has not sent yet
            self._ack_limit = matched + 1
            message["commit_index"] = min(message["commit_index"], matched)
            matched = last
        elif matched < self.raftCommitIndex:
            raise LogDamaged(
                f"the leader of term {message['term']} has another entry at the committed index"
                f" {matched + 1}",
                hint="the logs of this cluster have diverged: compare the voters' journals",
            )
        message["entries"] = fresh
        message["prevLogIdx"] = matched
        message["prevLogTerm"] = self._journal[matched - first][2]

    def _adopt_term(self, term: int) -> None:
        if term > self.raftCurrentTerm:
            self._SyncObj__setCurrentTerm(term, None)
            self._SyncObj__setState(0)
            self._SyncObj__raftLeader = None

    # Pre-vote

    def _election_is_due(self) -> bool:
        return (
            len(self._voters) > 1
            and not self._isLeader()
            and not self._SyncObj__transferInProgress
            and self._deadline < monotonic()
        )

    def _majority_would_vote(self) -> bool:
        return 2 * len(self._pre_votes) > len(self._voters)

    def _ask_for_pre_votes(self) -> None:
        low = self._settings.election_timeout_min_seconds
        high = self._settings.election_timeout_max_seconds
        self._deadline = monotonic() + random.uniform(low, high)
        self._pre_votes = {self.selfNode.id}
        self._SyncObj__raftLeader = None  # its silence lasts too long; its next word sets it again
        _, index, term = self._last
        for node in self.otherNodes:
            self._links.send(
                node,
                {
                    "type": "pre_vote",
                    "term": self.raftCurrentTerm,
                    "last_log_index": index,
                    "last_log_term": term,
                },
            )

    def _consider_pre_vote(self, node: Any, message: dict[str, Any]) -> None:
        if message["term"] < self.raftCurrentTerm:
            self._links.send(node, {"type": "newer_term", "term": self.raftCurrentTerm})
            return
        asked = (message["last_log_term"], message["last_log_index"])
        if not self._leader_is_live() and asked >= (self._last[2], self._last[1]):
            self._links.send(node, {"type": "pre_vote_granted", "term": message["term"]})

    def _count_pre_vote(self, node: Any, term: int) -> None:
        if term == self.raftCurrentTerm and self._pre_votes:
            self._pre_votes.add(node.id)
            if self._majority_would_vote():
                self._deadline = 0.0

    def _leader_is_live(self) -> bool:
        leader = self._getLeader()
        if leader is None or leader == self.selfNode:
            return leader is not None
        silence = monotonic() - self._leader_heard_at
        return (
            silence < self._settings.election_timeout_min_seconds
            and leader in self._SyncObj__connectedNodes
        )

    # Proposals and applying

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        proposals, self._proposals = self._proposals, []
        for payload, answer in proposals:
            if not self._isLeader():
                answer.rejected("this member does not lead")
                continue
            index, term = self._last[1] + 1, self.raftCurrentTerm
            self._journal.add(_REGULAR + payload, index, term)
            self._waiting[index] = (term, answer)

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        behind = self.raftCommitIndex - self.raftLastApplied
        for command, index, term in self._SyncObj__getEntries(self.raftLastApplied + 1, behind):
            # The library's own entries (a new leader's first) change nothing and have no payload.
            payload = command[1:] if command[:1] == _REGULAR else b""
            entry = Entry(index, term, payload)
            self.state, outcome = _apply_safely(self.state, entry)
            self._SyncObj__raftLastApplied = index
            self._listener.on_applied(entry)
            if waiting := self._waiting.pop(index, None):
                proposed_term, answer = waiting
                if proposed_term == term:
                    answer.done(index, term, outcome.refused)
                else:
                    answer.rejected("another leader's entry took its place")
        return False  # `tick` sends what changed

    # Snapshots

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: FBT001, N802, N803
        assert clearJournal, "only a received snapshot is loaded while running"
        snapshot = self._snapshots.loaded
        assert snapshot is not None
        self._journal.reset((snapshot.previous, snapshot.last))
        self._take_state(snapshot)
        for index in [index for index in self._waiting if index <= snapshot.index]:
            self._waiting.pop(index)[1].unknown("a snapshot took the place of its entry")
        self._listener.on_snapshot(snapshot)
        _log.info("took over a snapshot", index=snapshot.index, term=self.raftCurrentTerm)

    def _tell_snapshot_waiters(self) -> None:
        if self._snapshots.busy or self._SyncObj__forceLogCompaction:
            return
        waiters, self._snapshot_waiters = self._snapshot_waiters, []
        for taken in waiters:
            taken(self._snapshots.index)

    def _take_state(self, snapshot: Snapshot) -> None:
        self.state = snapshot.decoded()
        self._SyncObj__raftLastApplied = snapshot.index
        self._SyncObj__raftCommitIndex = max(self.raftCommitIndex, snapshot.index)
        self._snapshots.loaded = None  # its bytes are needed no more

    @property
    def _deadline(self) -> float:
        return float(self._SyncObj__raftElectionDeadline)

    @_deadline.setter
    def _deadline(self, deadline: float) -> None:
        self._SyncObj__raftElectionDeadline = deadline

    @property
    def _last(self) -> LogEntry:
        return self._journal[-1]


def _apply_safely(state: ClusterState, entry: Entry) -> tuple[ClusterState, Outcome]:
    try:
        return apply(state, entry)
    except Exception as error:
        _log.error("apply raised", index=entry.index, error=repr(error))
        advanced = msgspec.structs.replace(state, index=entry.index, term=entry.term)
        return advanced, Outcome(refused=f"the state machine failed: {error!r}")
