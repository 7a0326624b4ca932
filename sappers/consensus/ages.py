"""Ages: since when a voter's state has surely been as new as the cluster's.

A leader asks its followers a few times a second, and both sides say what their own clock shows. Who
hears a time of its own again knows that what comes with it was said later than that, however long
the message was under way, or waited for a process that stood still. No clock is compared with
another's.

What this file keeps: an age is never too small.
- Of a leader: a majority was in its term at that time or later, so before it nobody else led.
- Of a follower: its leader knew at that time what was committed, and all of that is applied here.
"""

from __future__ import annotations

from typing import Any

from sappers.consensus.parties import PeerNode
from sappers.consensus.recovery import Recovering

_PROBE_SECONDS = 0.25

# A voter's own time: when its process started, by which it knows its own again, and now.
_OwnTime = tuple[float, float]


class Aging(Recovering):
    """The part of `layer.RaftNode` that knows how old its state may be."""

    _probe_due: float
    _answered: dict[Any, float]  # the newest of this leader's times that each follower answered
    _follower_times: dict[Any, _OwnTime]  # the newest that each follower has told
    _sure: tuple[float, int]  # since when whoever has applied this index is up to date
    _state_as_of: float
    _told_commit: tuple[int, int]  # the newest commit index that a leader told, after its term

    def state_age(self) -> float | None:
        """Seconds since this voter's state was as new as the cluster's; None before it was."""
        if self._isLeader() and self.raftLastApplied >= (self._SyncObj__noopIDx or 0):
            answered = [self._answered.get(one, 0.0) for one in self.otherNodes]
            latest = sorted([*answered, self._now()], reverse=True)
            self._state_as_of = max(self._state_as_of, latest[len(self._voters) // 2])
        if self.raftLastApplied >= self._sure[1]:
            self._state_as_of = max(self._state_as_of, self._sure[0])
        return self._now() - self._state_as_of if self._state_as_of else None

    def _known_commit_index(self) -> int:
        """What must be applied here before this voter's state is as new as the cluster's.

        A follower that lags has its leader's word for it, which ends with the term; a leader has
        none, before its own first entry is committed.
        """
        term, told = self._told_commit
        if self._isLeader():
            told = self._SyncObj__noopIDx or 0
        elif term != self.raftCurrentTerm:
            told = 0
        return max(int(self.raftCommitIndex), told)

    def _probe_if_due(self) -> None:
        if not self._isLeader() or self._now() < self._probe_due:
            return
        self._probe_due = self._now() + _PROBE_SECONDS
        probe = {
            "type": "probe",
            "term": self.raftCurrentTerm,
            "at": self._now(),
            "age": self.state_age(),
            "commit_index": self.raftCommitIndex,
        }
        for voter in self._voters:
            node = PeerNode(voter)
            if voter != self.selfNode.id and self._links.tells_time(node):
                self._links.send(node, {**probe, "heard": self._follower_times.get(node)})

    def _answer_probe(self, node: Any, message: dict[str, Any]) -> None:
        if message["term"] != self.raftCurrentTerm:
            return
        heard = message["heard"]
        if message["age"] is not None and heard is not None and heard[0] == self._started_at:
            self.state_age()  # what was sure before may have been applied meanwhile
            self._sure = (heard[1] - message["age"], message["commit_index"])
        answer = {
            "type": "probe_answer",
            "term": self.raftCurrentTerm,
            "at": message["at"],
            "now": (self._started_at, self._now()),
        }
        self._links.send(node, answer)

    def _take_probe_answer(self, node: Any, message: dict[str, Any]) -> None:
        if message["term"] == self.raftCurrentTerm and self._isLeader():
            self._answered[node] = max(self._answered.get(node, 0.0), message["at"])
            self._follower_times[node] = tuple(message["now"])
