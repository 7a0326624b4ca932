"""Yielding: a leader whose own agent hangs, or that cannot apply the log, lets another voter lead.

The raft process goes on without its agent, so no voter would notice: entries could be committed,
and nobody decides or proposes anything. The same where the log has a format that the voter does
not know: it keeps entries and votes, no more. What this file keeps: such a voter takes no
leadership, and gives its own away at most once to each other voter in a while.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import structlog
from pysyncobj.node import Node

from sappers.consensus.halting import Halting

# One look says nothing about a longer time: this process may not have run in it either.
_RAN_SECONDS = 0.5
_AGAIN_SECONDS = 30.0  # until those are asked again who did not take it
_TAKE_SECONDS = 2.0

_log = structlog.get_logger()


class AgentSilence:
    """For how long an agent has said nothing while its raft process itself ran.

    A process that was stopped, or that got no processor on a busy machine, cannot tell whether
    its agent was any better off; such a time does not count.
    """

    def __init__(self) -> None:
        self._looked_at: float | None = None
        self._seconds = 0.0

    def end(self) -> None:
        """The agent has said something."""
        self._seconds = 0.0

    def seconds(self, now: float) -> float:
        """How long it lasts; to be asked often."""
        if self._looked_at is not None:
            self._seconds += min(max(0.0, now - self._looked_at), _RAN_SECONDS)
        self._looked_at = now
        return self._seconds


def choose_successor(connected: Sequence[str], asked: Collection[str]) -> str | None:
    """Who is to lead in this voter's place; None where all that could were asked.

    Args:
        connected: Voters that are reached, the one that has most of the log first.
        asked: Who was asked a while ago and did not take it: its agent may hang, too.
    """
    return next((one for one in connected if one not in asked), None)


class _Unheard:
    """The agent is not there to hear how a transfer ends."""

    def done(self, index: int, term: int, refused: str) -> None:  # noqa: ARG002
        _log.info("another voter leads, as this one cannot", index=index, term=term)

    def rejected(self, reason: str) -> None:
        _log.warning("leadership stays with a voter that cannot lead", reason=reason)

    unknown = rejected


class Yielding(Halting):
    """The part of `layer.RaftNode` that knows when it is not fit to lead.

    Attributes:
        agent_silence: Seconds for which the agent has said nothing, by a moment's `_now()`.
    """

    agent_silence: Callable[[float], float]
    _yield_asked: set[str]
    _yield_asked_at: float

    def _why_not_lead(self) -> str:
        hangs = self.agent_silence(self._now()) >= self._settings.agent_silence_seconds
        return self._halted or ("the agent hangs" if hangs else "")

    def _yield_if_unfit(self) -> None:
        """Begin to hand leadership over, if it is time to."""
        reason = self._why_not_lead()
        if not reason or not self._isLeader() or self._transfer is not None:
            return
        if self._now() - self._yield_asked_at >= _AGAIN_SECONDS:
            self._yield_asked = set()
        successor = choose_successor(self._connected_voters(), self._yield_asked)
        if successor is not None:
            self._yield_asked.add(successor)
            self._yield_asked_at = self._now()
            _log.warning("another voter is to lead", reason=reason, successor=successor)
            self.transfer(successor, _TAKE_SECONDS, _Unheard())

    def _connected_voters(self) -> list[str]:
        match = self._SyncObj__raftMatchIndex
        others = [one for one in self._voters if one != self.selfNode.id]
        reached = [one for one in others if self.isNodeConnected(Node(one))]
        return sorted(reached, key=lambda one: (-match.get(Node(one), 0), one))
