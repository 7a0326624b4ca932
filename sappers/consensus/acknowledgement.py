"""Acknowledgement: what a voter says that it has, and what it takes from a leader.

Invariants:
- Nothing is acknowledged before it is on disk, and an acknowledgement dies with its term.
- A follower drops an entry only when the leader of its term has another one at that index.
"""

from __future__ import annotations

from typing import Any

from pysyncobj import SyncObj

from sappers.consensus.journal import Journal, LogEntry
from sappers.consensus.parties import PeerLinks
from sappers.errors import LogDamaged


class Acknowledging(SyncObj):  # type: ignore[misc] # the library has no types
    """The part of `layer.RaftNode` that answers AppendEntries."""

    _journal: Journal
    _links: PeerLinks
    _acks: dict[Any, dict[str, Any]]  # to send after the next sync, by node
    _ack_limit: int | None  # what may be acknowledged of the message that is being handled

    def _settle(self) -> bool:
        """Sync, then tell; whether there was anything to sync."""
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
            if term > message["term"]:
                raise ValueError(f"entry {index} is of term {term}, its leader of an earlier one")
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

    @property
    def _last(self) -> LogEntry:
        return self._journal[-1]
