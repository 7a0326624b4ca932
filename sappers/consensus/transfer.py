"""Transfer: a leader hands leadership to a voter that has all of its log.

While it waits for that, and for the other one's election, it takes no proposals.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sappers.consensus.parties import Answer, PeerNode
from sappers.consensus.pre_vote import PreVoting

_ELECTIONS = 3  # of the longest election timeout, for which a leader waits in vain


class _Transfer(msgspec.Struct):
    """One that is under way."""

    target: Any
    term: int
    until: float
    answer: Answer
    asked: bool = False


class Transferring(PreVoting):
    """The part of `layer.RaftNode` that hands leadership over."""

    _transfer: _Transfer | None

    def transfer(self, target_id: str, timeout_seconds: float, answer: Answer) -> None:
        """Hand leadership to a voter; `done` once it leads, with this voter's applied index."""
        if not self._isLeader():
            answer.rejected("this member does not lead")
        elif self._transfer is not None:
            answer.rejected(f"leadership moves to {self._transfer.target.id} already")
        elif target_id == self.selfNode.id:
            answer.done(self.raftLastApplied, self.raftCurrentTerm, "")
        elif PeerNode(target_id) not in self.otherNodes:
            answer.rejected(f"{target_id} has no vote")
        elif not self.isNodeConnected(PeerNode(target_id)):
            answer.rejected(f"{target_id} is not connected")
        else:
            longest = _ELECTIONS * self._settings.election_timeout_max_seconds
            until = self._now() + min(timeout_seconds, longest)
            self._transfer = _Transfer(PeerNode(target_id), self.raftCurrentTerm, until, answer)

    def _advance_transfer(self) -> None:
        if self._transfer is not None and self._transfer_is_over(self._transfer):
            self._transfer = None

    def _transfer_is_over(self, transfer: _Transfer) -> bool:
        if self.raftCurrentTerm == transfer.term and self._isLeader():
            if self._now() > transfer.until:
                self._give_up(transfer, f"{transfer.target.id} did not take it in time")
                return True
            if not transfer.asked and self._has_all(transfer.target):
                message = {"type": "timeout_now", "term": self.raftCurrentTerm}
                transfer.asked = bool(self._links.send(transfer.target, message))
            return False
        leader = self._getLeader()
        if leader == transfer.target:
            transfer.answer.done(self.raftLastApplied, self.raftCurrentTerm, "")
        elif leader is not None:
            transfer.answer.rejected(f"{leader.id} leads now")
        elif self._now() > transfer.until:
            self._give_up(transfer, "nobody is known to lead")
        else:
            return False
        return True

    def _has_all(self, node: Any) -> bool:
        return bool(self._SyncObj__raftMatchIndex.get(node, 0) == self._last[1])

    def _give_up(self, transfer: _Transfer, reason: str) -> None:
        if transfer.asked:
            transfer.answer.unknown(reason)
        else:
            transfer.answer.rejected(reason)
