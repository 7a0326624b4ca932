"""Halting: a voter that meets a format of the log which it does not know applies nothing more.

What would follow is unknown to it, so no state that differs comes of it: not in memory, and not in
a snapshot. It keeps what it is sent and votes, so that the others' quorum stays; once it is another
version, it goes on where it stood.
"""

from __future__ import annotations

import structlog

from sappers.consensus.snapshot import Snapshot, SnapshotStore
from sappers.consensus.transfer import Transferring
from sappers.errors import UpgradeNeeded
from sappers.model.cluster_state import ClusterState
from sappers.model.log_format import check_known

_log = structlog.get_logger()


class Halting(Transferring):
    """The part of `layer.RaftNode` that knows how far it may go."""

    _halted: str  # why it applies nothing more, or empty
    _snapshots: SnapshotStore

    def _halt(self, error: UpgradeNeeded) -> None:
        self._halted = error.message
        _log.error("applies no more", after=self.raftLastApplied, reason=error.message)

    def _known_part(self, snapshot: Snapshot) -> ClusterState:
        """The state; where there may be more in it, halt: it votes by that, and shows it nobody."""
        state = snapshot.decoded()
        try:
            check_known(state.format)
        except UpgradeNeeded as error:
            self._halt(error)
        return state

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        if not self._halted or self._snapshots.busy:
            super()._SyncObj__tryLogCompaction()
