"""Recovery: a voter goes on alone where the others are gone for good.

Nothing in Raft allows that: what the lost majority had committed last may be missing, and if it was
not gone after all there are two clusters. So an operator decides it, at the voter with the newest
log, and the voter refuses while it hears a leader or a majority. One that has just started hears
nobody yet: it listens for a while first. So long, too, as leases last: by entries that are given
up exclusive guests may run of which this voter knows nothing, and whose place others would take.
"""

from __future__ import annotations

import msgspec

from sappers.consensus.configuration import Configuration
from sappers.consensus.parties import Answer
from sappers.consensus.reconfiguration import Reconfiguring
from sappers.model.commands import RemoveVoter, decode_proposal, encode_proposal

LISTEN_SECONDS = 5.0
# Those who are lost may have had terms of their own that this voter never heard of. An entry of one
# of them must not look like one of this voter's.
TERMS_LEFT_OUT = 1000


class Recovering(Reconfiguring):
    """The part of `layer.RaftNode` that makes a configuration of one."""

    _recovery: tuple[bytes, Answer] | None
    _recovery_asked: tuple[bytes, Answer, float] | None  # while it listens, and until when
    _started_at: float

    def recover(self, payload: bytes, answer: Answer, listen_seconds: float = 0.0) -> None:
        """Count with this voter alone, commit its log, and remove the others from the electorate.

        Args:
            payload: A proposal without commands; it says who asks, and when.
            listen_seconds: From now on at least; until then leases end that others have granted.
        """
        if self._recovery is not None or self._recovery_asked is not None:
            answer.rejected("recovery is under way")
        elif objection := self._objection_to_recovery():
            answer.rejected(objection)
        else:
            until = max(self._started_at + LISTEN_SECONDS, self._now() + listen_seconds)
            self._recovery_asked = (payload, answer, until)

    def _objection_to_recovery(self) -> str:
        if self._getLeader() is not None or (len(self._voters) > 1 and self.hasQuorum):
            return "the electorate is not lost: this voter is connected with a majority"
        if self.selfNode.id not in self._voters or self._is_removed:
            return "this member has no vote"
        return self._halted

    def _begin_recovery(self) -> None:
        """Count alone, once this voter has run so long that others would have been heard."""
        if self._recovery_asked is None:
            return
        payload, answer, until = self._recovery_asked
        if objection := self._objection_to_recovery():
            self._recovery_asked = None
            answer.rejected(objection)
        elif self._now() >= until:
            self._recovery_asked, self._recovery = None, (payload, answer)
            self._SyncObj__setCurrentTerm(self.raftCurrentTerm + TERMS_LEFT_OUT, None)
            self._change_to(Configuration((self.selfNode.id,), self._configuration.at))

    def _advance_recovery(self) -> None:
        """Once it leads and has applied all, have the log say that it is alone."""
        self._begin_recovery()
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
