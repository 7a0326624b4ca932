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

from collections.abc import Callable
from typing import Any

import structlog
from pysyncobj.monotonic import monotonic  # not quite the clock of time.monotonic

from sappers.config import RaftSettings
from sappers.consensus.ages import Aging
from sappers.consensus.configuration import configuration_now
from sappers.consensus.journal import CHANGE, Journal
from sappers.consensus.library import QUEUE_LENGTH, library_settings
from sappers.consensus.parties import Answer, Listener, PeerLinks, PeerNode
from sappers.consensus.replica import apply_safely
from sappers.consensus.snapshot import Snapshot, SnapshotStore, join
from sappers.errors import UpgradeNeeded
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry
from sappers.model.entry_place import EntryPlace
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.view import Genesis

_log = structlog.get_logger()

_REGULAR = b"\x00"  # pysyncobj's _COMMAND_TYPE, the first byte of each command
_ROLES = (RaftRole.FOLLOWER, RaftRole.CANDIDATE, RaftRole.LEADER)  # pysyncobj's _RAFT_STATE
_UNHEARD_SECONDS = 2
_TERMS_AHEAD_MAX = 2**24  # more than years of elections: nobody uses up those that there are
_COMMIT_TOLD_SECONDS = 0.001  # until followers are told what is committed, unless entries go first


class _NothingToPoll:
    """Stands in for the library's poller."""

    @staticmethod
    def poll(_: float) -> None:
        """Nothing comes in this way."""


class RaftNode(Aging):
    """One voter. Single-threaded: `tick` and the transport's callbacks run in one event loop.

    Attributes:
        state: The replicated state, an immutable value; set after the library's constructor, as
            what is set then is what the library snapshots.
    """

    def __init__(
        self,
        me_id: str,
        genesis: Genesis,
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
        self._genesis = genesis
        self._is_removed = False
        self._halted = ""
        self._transfer = None
        self.agent_silence = lambda _: 0.0
        self._yield_asked, self._yield_asked_at = set(), 0.0
        self._recovery = self._recovery_asked = None
        self._started_at = self._now()
        self._counts_alone = False
        self._acks = {}
        self._ack_limit = None
        self._proposals: list[tuple[bytes, bytes, Answer]] = []
        self._waiting: dict[int, tuple[int, Answer]] = {}
        self._pre_votes = set()
        self._votes: set[tuple[int, str]] = set()
        self._leader_heard_at = 0.0
        self._told_commit = (0, 0)
        self._probe_due = self._state_as_of = 0.0
        self._answered, self._follower_times = {}, {}
        self._sure = (0.0, 0)
        self._announced = (0, 0)
        self._snapshot_waiters: list[Callable[[int | str], None]] = []
        join(journal, snapshots.loaded)
        self._configuration = configuration_now(genesis, ClusterState(), ())
        others = [PeerNode(voter) for voter in self._voters if voter != me_id]
        super().__init__(
            PeerNode(me_id),
            others,
            conf=library_settings(settings, journal, snapshots),
            transport=transport,
        )
        # asyncio watches the sockets; the library's own would cost a system call a tick.
        self._poller = _NothingToPoll
        for node in others:
            self._links.addNode(node)
        self._links.farewell = self._farewell_to
        self._links.is_revoked = lambda member_id: member_id in self.state.revoked
        self._SyncObj__needLoadDumpFile = False  # done below; the library would serve empty
        self.state = ClusterState(index=1)
        if snapshots.loaded is not None:
            self._take_state(snapshots.loaded)
        self._use_configuration()
        # Of what is committed the journal has all: an older snapshot would cut it.
        snapshots.newest_useful = lambda: int(max(self.raftLastApplied, self.raftCommitIndex))
        snapshots.has_room = self._links.has_room

    # What the process calls

    def tick(self, tell: Callable[[], None] = lambda: None) -> bool:
        """Do what time and messages ask for; whether another tick should follow at once.

        Args:
            tell: Called when all that is new is applied and on its way to the others, while this
                voter's own sync, which takes a while, is still to come.
        """
        self._settle()
        self._yield_if_unfit()
        self._advance_transfer()
        self._advance_recovery()
        self._begin_election_if_due()
        if self._SyncObj__otherNodes:  # alone, what is there counts at once: it waits for a sync
            self._checkCommandsToApply()  # what the library sends has them in it, and goes once
        if self._journal.entry_bytes > self._settings.compaction_min_bytes:
            self.forceLogCompaction()  # the library counts entries alone
        self._onTick(0.0)
        self._tell_snapshot_waiters()
        self._announce()
        self._probe_if_due()
        tell()
        return self._settle() and not self._SyncObj__otherNodes  # else their answers wake it

    @property
    def has_work(self) -> bool:
        """Whether what was heard is acted on at once; one more answer than a majority is not."""
        if not self._isLeader() or self._transfer is not None:
            return True
        matching = sorted(self._SyncObj__raftMatchIndex.values(), reverse=True)
        needed = len(self._voters) // 2
        return needed == 0 or bool(matching[needed - 1] > self.raftCommitIndex)

    @property
    def awaits_more(self) -> bool:
        """Whether several writes are under way: what comes for them is taken together."""
        return self._isLeader() and len(self._proposals) + len(self._waiting) > 1

    def seconds_until_due(self) -> float:
        """When `tick` has something to do again if nothing comes in; few wake-ups save power."""
        if self._snapshots.busy or self._transfer is not None:
            return self._settings.tick_seconds
        is_leader = self._isLeader()
        due = self._SyncObj__newAppendEntriesTime if is_leader else self._deadline
        wait: float = due - self._now() + 0.001
        return min(max(wait, 0.001), self._settings.append_entries_seconds)

    def propose(self, payload: bytes, answer: Answer) -> None:
        """Append an entry at the next tick, if this voter leads."""
        self._queue(_REGULAR, payload, answer)

    def change_electorate(self, payload: bytes, answer: Answer) -> None:
        """The same for a proposal with one `AddVoter` or `RemoveVoter`, which Raft keeps to, too.

        Rejected while another one is not applied.
        """
        self._queue(CHANGE, payload, answer)

    def _queue(self, kind: bytes, payload: bytes, answer: Answer) -> None:
        if len(payload) > self._settings.max_command_bytes:
            answer.rejected(
                f"{len(payload)} bytes, at most {self._settings.max_command_bytes} fit in an entry"
            )
        elif len(self._proposals) + len(self._waiting) >= QUEUE_LENGTH:
            answer.rejected(f"{QUEUE_LENGTH} proposals are waiting already")
        else:
            self._proposals.append((kind, payload, answer))

    def take_snapshot(self, told: Callable[[int | str], None]) -> None:
        """Compact now; `told` hears the index that the durable snapshot stands at, or why not."""
        self.forceLogCompaction()
        self._snapshot_waiters.append(told)

    def standing(self) -> tuple[RaftRole, int, str | None, tuple[str, ...]]:
        """Role, term, leader and electorate now: what changes rarely of `status`."""
        leader = self._getLeader()
        leader_id = leader.id if leader is not None else None
        return _ROLES[self._SyncObj__raftState], self.raftCurrentTerm, leader_id, self._voters

    def status(self) -> RaftStatus:
        """Role, term, leader and indexes now."""
        role, term, leader_id, electorate = self.standing()
        return RaftStatus(
            role=role,
            term=term,
            leader_id=leader_id,
            commit_index=self._known_commit_index(),
            applied_index=self.raftLastApplied,
            electorate=electorate,
            unheard=self._unheard() if self._isLeader() else {},
            snapshot_index=self._snapshots.index,
            last_index=self._last[1],
            last_term=self._last[2],
        )

    def _unheard(self) -> dict[str, int]:
        """Whole seconds, of voters that have said nothing for a while; by id."""
        now = self._now()
        heard = {
            node.id: int(now - at)
            for node, at in self._SyncObj__lastResponseTime.items()
            if node in self.otherNodes
        }
        return {voter: silent for voter, silent in heard.items() if silent >= _UNHEARD_SECONDS}

    # Leading

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        super()._SyncObj__onBecomeLeader()
        self._journal.sync()
        _log.info("leads", term=self.raftCurrentTerm, index=self._last[1])

    def _announce(self) -> None:
        """Send new entries at once; that more is committed may wait a moment for the next ones."""
        if not self._isLeader():
            return
        if self._last[1] != self._announced[0]:
            self._SyncObj__sendAppendEntries()
        elif self.raftCommitIndex != self._announced[1]:
            self._send_within(_COMMIT_TOLD_SECONDS)

    def _send_within(self, seconds: float) -> None:
        due = self._now() + seconds
        self._SyncObj__newAppendEntriesTime: float = min(self._SyncObj__newAppendEntriesTime, due)

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        super()._SyncObj__sendAppendEntries()
        self._announced = (self._last[1], self.raftCommitIndex)

    # Messages

    def _SyncObj__onMessageReceived(self, node: Any, message: dict[str, Any]) -> None:  # noqa: N802
        if self._is_shut_out(node.id):  # its link is cut a moment later
            return
        if (term := message.get("term", 0)) > self.raftCurrentTerm + _TERMS_AHEAD_MAX:
            raise ValueError(f"term {term} is no term: this voter knows {self.raftCurrentTerm}")
        match message["type"]:
            case "pre_vote":
                self._consider_pre_vote(node, message)
            case "pre_vote_granted":
                self._count_pre_vote(node, message["term"])
            case "newer_term":
                self._adopt_term(message["term"])
            case "probe":
                self._answer_probe(node, message)
            case "probe_answer":
                self._take_probe_answer(node, message)
            case "removed":
                self._consider_farewell(EntryPlace(message["index"], message.get("term", 0)))
            case "timeout_now" if reason := self._why_not_lead():
                _log.warning("takes no leadership", reason=reason)
            case _:
                self._hand_to_library(node, message)

    def _is_shut_out(self, voter_id: str) -> bool:
        return voter_id in self.state.revoked

    def _hand_to_library(self, node: Any, message: dict[str, Any]) -> None:
        match message["type"]:
            case "response_vote":
                vote, now = (message["term"], node.id), self.raftCurrentTerm
                if vote[0] != now or vote in self._votes or node.id not in self._voters:
                    return
                self._votes = {one for one in self._votes if one[0] == now} | {vote}
            case "next_node_idx":
                if message["term"] != self.raftCurrentTerm or node not in self._SyncObj__otherNodes:
                    return
                message["next_node_idx"] = min(message["next_node_idx"], self._last[1] + 1)
            case "append_entries":
                if message["term"] < self.raftCurrentTerm:
                    self._links.send(node, {"type": "newer_term", "term": self.raftCurrentTerm})
                    return
                self._leader_heard_at = self._now()
                told = (message["term"], message["commit_index"])
                self._told_commit = max(self._told_commit, told)
                self._pre_votes.clear()
                self._keep_what_matches(message)
                if "serialized" in message:  # answered by the library only when it is complete
                    self._SyncObj__sendNextNodeIdx(node)
        try:
            super()._SyncObj__onMessageReceived(node, message)
        finally:
            self._ack_limit = None
        if len(self._journal.changes_after(self.raftLastApplied)) > 1:
            self._use_configuration()

    def _adopt_term(self, term: int) -> None:
        if term > self.raftCurrentTerm:
            self._SyncObj__setCurrentTerm(term, None)
            self._SyncObj__setState(0)
            self._SyncObj__raftLeader = None

    # Proposals and applying

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        proposals, self._proposals = self._proposals, []
        for kind, payload, answer in proposals:
            if not self._isLeader():
                answer.rejected("this member does not lead")
            elif self._halted:
                answer.rejected(self._halted)
            elif self._transfer is not None:
                answer.rejected(f"leadership is moving to {self._transfer.target.id}")
            elif kind == CHANGE and (objection := self._objection_to(payload)):
                answer.rejected(objection)
            else:
                index, term = self._last[1] + 1, self.raftCurrentTerm
                self._journal.add(kind + payload, index, term)
                self._waiting[index] = (term, answer)

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        behind = 0 if self._halted else self.raftCommitIndex - self.raftLastApplied
        for command, index, term in self._SyncObj__getEntries(self.raftLastApplied + 1, behind):
            # The library's own entries (a new leader's first) change nothing and have no payload.
            payload = command[1:] if command[:1] in (_REGULAR, CHANGE) else b""
            entry = Entry(index, term, payload)
            try:
                self.state, outcome = apply_safely(self.state, entry)
            except UpgradeNeeded as error:
                self._halt(error)
                self._tell(self._listener.on_applied, entry)  # the agent halts there, too
                break
            self._SyncObj__raftLastApplied = index
            self._tell(self._listener.on_applied, entry)
            if self.state.electorate_at.is_after(self._configuration.at):
                self._use_configuration()
                self.forceLogCompaction()  # a new voter starts from a snapshot, not from the log
            if waiting := self._waiting.pop(index, None):
                proposed_term, answer = waiting
                if proposed_term == term:
                    self._tell(answer.done, index, term, outcome.refused)
                else:
                    self._tell(answer.rejected, "another leader's entry took its place")
        return False  # `tick` sends what changed

    def _tell(self, hear: Callable[..., None], *what: object) -> None:
        """Whoever is told cannot stop the log, nor make it apply an entry twice."""
        try:
            hear(*what)
        except Exception as error:
            _log.error("a listener failed", index=self.raftLastApplied, error=repr(error))

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
        self._use_configuration()
        _log.info("took over a snapshot", index=snapshot.index, term=self.raftCurrentTerm)

    def _tell_snapshot_waiters(self) -> None:
        if self._snapshots.busy or self._SyncObj__forceLogCompaction:
            return
        waiters, self._snapshot_waiters = self._snapshot_waiters, []
        for told in waiters:
            told(self._snapshots.trouble or self._snapshots.index)

    def _take_state(self, snapshot: Snapshot) -> None:
        self.state = self._known_part(snapshot)
        self._SyncObj__raftLastApplied = snapshot.index
        self._SyncObj__raftCommitIndex = max(self.raftCommitIndex, snapshot.index)
        self._snapshots.loaded = None  # its bytes are needed no more

    def _now(self) -> float:
        return float(monotonic())
