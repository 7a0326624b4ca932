"""Reconfiguration: voters are added and removed while the log goes on, one at a time.

Who is removed is told, and ends; who is told by a voter that knows less than itself does not.
"""

from __future__ import annotations

from typing import Any

import structlog

from sappers.consensus.configuration import Configuration, configuration_now
from sappers.consensus.journal import CHANGE
from sappers.consensus.parties import Listener, PeerNode
from sappers.consensus.yielding import Yielding
from sappers.model.cluster_state import ClusterState
from sappers.model.entry_place import EntryPlace
from sappers.model.view import Genesis

_FIRST_WORD_SECONDS = 10.0  # so long may a new voter take until it counts as silent

_log = structlog.get_logger()


class Reconfiguring(Yielding):
    """The part of `layer.RaftNode` that keeps to the configuration in force."""

    state: ClusterState
    _genesis: Genesis
    _listener: Listener
    _configuration: Configuration
    _is_removed: bool

    @property
    def _voters(self) -> tuple[str, ...]:
        return self._configuration.voters

    def _may_campaign(self) -> bool:
        """A joiner has no say before it holds the state in which it was added."""
        if self._is_removed or self._why_not_lead():
            return False
        is_joining = self._genesis.given_at.is_after(self.state.electorate_at)
        return self.selfNode.id in self._voters and not is_joining

    def _objection_to(self, payload: bytes) -> str:
        """Why the leader cannot append this change now, or empty."""
        if not self.state.cluster_id:
            return "the cluster is not founded yet"
        if self.raftLastApplied < self._SyncObj__noopIDx:
            return "this leader has just begun: what was before it is not applied yet"
        if self._journal.changes_after(self.raftLastApplied):
            return "another change of the electorate is under way"
        after = self._configuration.after((CHANGE + payload, 0, 0))
        if revoked := ({*after.voters} - {*self._voters}) & {*self.state.revoked}:
            return f"{', '.join(sorted(revoked))} is revoked: it joins again under a new id only"
        if self.selfNode.id not in after.voters:
            return "a leader does not remove itself: transfer leadership first"
        if len(after.voters) < len(self._voters) and not self._would_have_quorum(after):
            return "the voters that remain have no quorum that answers"
        return ""

    def _would_have_quorum(self, after: Configuration) -> bool:
        heard_since = self._now() - self._settings.leader_fallback_seconds
        answering = sum(
            voter == self.selfNode.id or self._heard_at(PeerNode(voter)) > heard_since
            for voter in after.voters
        )
        return bool(2 * answering > len(after.voters))

    def _heard_at(self, node: Any) -> float:
        """When a leader heard it last; 0 for a newcomer that only has time until it is silent."""
        at: float = self._SyncObj__lastResponseTime.get(node, 0.0)
        return at if at <= self._now() else 0.0

    def _use_configuration(self) -> None:
        """Count the votes of the voters that the log names now."""
        changes = self._journal.changes_after(self.raftLastApplied)
        now = configuration_now(self._genesis, self.state, changes)
        if now == self._configuration:
            return
        self._change_to(now)

    def _change_to(self, now: Configuration) -> None:
        before, self._configuration = self._configuration, now
        if before.voters == now.voters:
            return
        _log.info("electorate", voters=now.voters, index=now.at.index)
        mine = {self.selfNode.id}
        for voter in sorted(set(now.voters) - set(before.voters) - mine):
            self._admit(PeerNode(voter))
        for voter in sorted(set(before.voters) - set(now.voters) - mine):
            self._dismiss(PeerNode(voter))
        if self.selfNode.id not in now.voters:
            self._leave(now.at.index)

    def _admit(self, node: Any) -> None:
        self._SyncObj__otherNodes.add(node)
        self._SyncObj__raftNextIndex[node] = self._last[1] + 1
        self._SyncObj__raftMatchIndex[node] = 0
        self._SyncObj__lastResponseTime[node] = self._now() + _FIRST_WORD_SECONDS
        self._links.addNode(node)

    def _dismiss(self, node: Any) -> None:
        self._links.send(node, self._farewell())
        self._links.dropNode(node)
        self._SyncObj__otherNodes.discard(node)
        self._SyncObj__raftNextIndex.pop(node, None)
        self._SyncObj__raftMatchIndex.pop(node, None)
        self._SyncObj__lastResponseTime.pop(node, None)
        self._snapshots.cancelTransmisstion(node)
        if self._getLeader() == node:
            self._SyncObj__raftLeader = None

    def _leave(self, index: int) -> None:
        if not self._is_removed:
            self._is_removed = True
            if self._isLeader():
                self._SyncObj__sendAppendEntries()  # so that the others know, too
            _log.info("this voter was removed", index=index)
            self._listener.on_removed(index)

    # Who has no vote here

    def _farewell(self) -> dict[str, Any]:
        return {"type": "removed", "index": self._configuration.at.index}

    def _farewell_to(self, voter_id: str) -> dict[str, Any] | None:
        """What a member that takes itself for a voter is to know."""
        if not self.state.cluster_id or voter_id in self._voters:
            return None
        return self._farewell() | {"term": self._configuration.at.term}

    def _consider_farewell(self, at: EntryPlace) -> None:
        if at.is_after(self._configuration.at):
            self._leave(at.index)
