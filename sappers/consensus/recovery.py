"""Recovery: a voter goes on alone where the others are gone for good.

Nothing in Raft allows that: what the lost majority had committed last may be missing, and if it was
not gone after all there are two clusters. So an operator decides it, at the voter with the newest
log, and the voter refuses while it hears a leader or a majority.
"""

from __future__ import annotations

import msgspec

from sappers.consensus.configuration import Configuration
from sappers.consensus.parties import Answer
from sappers.consensus.reconfiguration import Reconfiguring
from sappers.model.commands import RemoveVoter, decode_proposal, encode_proposal


class Recovering(Reconfiguring):
    """The part of `layer.RaftNode` that makes a configuration of one."""

    _recovery: tuple[bytes, Answer] | None

    def recover(self, payload: bytes, answer: Answer) -> None:
        """Count with this voter alone, commit its log, and remove the others from the electorate.

        Args:
            payload: A proposal without commands; it says who asks, and when.
        """
        if self._recovery is not None:
            answer.rejected("recovery is under way")
        elif self._getLeader() is not None or (len(self._voters) > 1 and self.hasQuorum):
            answer.rejected("the electorate is not lost: this voter is connected with a majority")
        elif self.selfNode.id not in self._voters or self._is_removed:
            answer.rejected("this member has no vote")
        else:
            alone = Configuration((self.selfNode.id,), self._configuration.index)
            self._recovery = (payload, answer)
            self._change_to(alone)

    def _advance_recovery(self) -> None:
        """Once it leads and has applied all, have the log say that it is alone."""
        if self._recovery is None or not self._isLeader():
            return
        if self.raftLastApplied < self._SyncObj__noopIDx:
            return
        payload, answer = self._recovery
        me = self.selfNode.id
        commands = tuple(RemoveVoter(one) for one in self.state.electorate if one != me)
        proposal = msgspec.structs.replace(decode_proposal(payload), commands=commands)
        self._recovery = None
        self._counts_alone = True
        self.change_electorate(encode_proposal(proposal), answer)

    def change_electorate(self, payload: bytes, answer: Answer) -> None:
        """See `layer.RaftNode`."""
        raise NotImplementedError

    def _use_configuration(self) -> None:
        if self._recovery is not None:
            return
        if self._counts_alone and set(self.state.electorate) != {self.selfNode.id}:
            return
        self._counts_alone = False
        super()._use_configuration()
