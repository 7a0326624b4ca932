"""Pre-vote: an election begins only after a majority said that it would vote.

So a member that was cut off cannot unseat a leader that works, and terms do not grow while nobody
can win. An election that the leader itself asks for (a transfer) needs no pre-vote.
"""

from __future__ import annotations

import random
from typing import Any

from sappers.config import RaftSettings
from sappers.consensus.acknowledgement import Acknowledging

_ASK_AFTER_LOSS_SECONDS = (0.05, 0.25)


class PreVoting(Acknowledging):
    """The part of `layer.RaftNode` that decides when an election begins."""

    _settings: RaftSettings
    _pre_votes: set[str]
    _leader_heard_at: float

    def _begin_election_if_due(self) -> None:
        """Let the library begin one at its next tick, or ask the others."""
        if not self._election_is_due():
            return
        if not self._may_campaign():
            self._wait_for_another_leader()
        elif self._majority_would_vote():
            self._pre_votes.clear()  # the library begins the election
        else:
            self._ask_for_pre_votes()

    def _election_is_due(self) -> bool:
        return (
            (len(self._voters) > 1 or not self._may_campaign())
            and not self._isLeader()
            and not self._SyncObj__transferInProgress
            and self._deadline < self._now()
        )

    @property
    def _voters(self) -> tuple[str, ...]:
        raise NotImplementedError

    def _may_campaign(self) -> bool:
        raise NotImplementedError

    def _now(self) -> float:
        raise NotImplementedError

    def _majority_would_vote(self) -> bool:
        return 2 * len(self._pre_votes.intersection(self._voters)) > len(self._voters)

    def _wait_for_another_leader(self) -> None:
        low = self._settings.election_timeout_min_seconds
        high = self._settings.election_timeout_max_seconds
        self._deadline = self._now() + random.uniform(low, high)
        self._SyncObj__raftLeader = None  # its silence lasts too long; its next word sets it again

    def _ask_for_pre_votes(self) -> None:
        self._wait_for_another_leader()
        self._pre_votes = {self.selfNode.id}
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
        silence = self._now() - self._leader_heard_at
        return (
            silence < self._settings.election_timeout_min_seconds
            and leader in self._SyncObj__connectedNodes
        )

    def _SyncObj__onNodeDisconnected(self, node: Any) -> None:  # noqa: N802
        super()._SyncObj__onNodeDisconnected(node)
        if node == self._getLeader():
            # Perhaps it died: ask soon. Whoever still hears it says no.
            soon = self._now() + random.uniform(*_ASK_AFTER_LOSS_SECONDS)
            self._deadline = min(self._deadline, soon)

    @property
    def _deadline(self) -> float:
        return float(self._SyncObj__raftElectionDeadline)

    @_deadline.setter
    def _deadline(self, deadline: float) -> None:
        self._SyncObj__raftElectionDeadline = deadline
