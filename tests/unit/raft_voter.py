"""One voter and hand-made messages from its peers, at a time that the test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pysyncobj.syncobj
import pytest
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from sappers.config import RaftSettings
from sappers.consensus import layer
from sappers.consensus.journal import Journal
from sappers.consensus.layer import RaftNode
from sappers.consensus.snapshot import SnapshotStore
from sappers.model.commands import Entry, NoOperation, Proposal, encode_proposal
from sappers.model.observation import RaftRole
from sappers.model.view import Genesis

PAYLOAD = encode_proposal(Proposal("r", "me", 1.0, (NoOperation(),)))


class Wire(Transport):
    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.peers: set[str] = set()
        self.farewell: Any = None

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        self.sent.append((node.id, message))
        return True

    def has_room(self, node: Any) -> bool:
        return True

    def tells_time(self, node: Any) -> bool:
        return node.id in self.peers

    def addNode(self, node: Any) -> None:  # noqa: N802
        self.peers.add(node.id)

    def dropNode(self, node: Any) -> None:  # noqa: N802
        self.peers.discard(node.id)

    def take(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        found = [(peer, m) for peer, m in self.sent if m["type"] == kind]
        self.sent.clear()
        return found


class Answers:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def done(self, *what: Any) -> None:
        self.heard.append(("done", *what))

    def rejected(self, reason: str) -> None:
        self.heard.append(("rejected", reason))

    def unknown(self, reason: str) -> None:
        self.heard.append(("unknown", reason))


class Voter:
    """`me` of the electorate me, a, b, at a time that the test sets."""

    def __init__(self, folder: Path, clock: dict[str, float], voters: tuple[str, ...]) -> None:
        self.clock = clock
        self.wire = Wire()
        self.journal = Journal(folder)
        self.applied: list[Entry] = []
        store = SnapshotStore(folder / "snapshot")
        genesis = Genesis("c", "me", voters, {})
        self.node = RaftNode("me", genesis, self.journal, store, self.wire, RaftSettings(), self)
        for peer in voters[1:]:
            self.wire._onNodeConnected(Node(peer))

    def on_applied(self, entry: Entry) -> None:
        self.applied.append(entry)

    def on_snapshot(self, snapshot: Any) -> None:
        raise AssertionError

    def on_removed(self, index: int) -> None:
        self.removed_at = index

    def hears(self, peer: str, kind: str, **fields: Any) -> None:
        self.wire._onMessageReceived(Node(peer), {"type": kind, **fields})

    def tick_after(self, seconds: float) -> None:
        self.clock["now"] += seconds
        self.node.tick()

    def becomes_leader(self) -> int:
        self.tick_after(1.0)
        self.hears("a", "pre_vote_granted", term=self.node.raftCurrentTerm)
        self.tick_after(0.01)
        self.hears("a", "response_vote", term=self.node.raftCurrentTerm)
        assert self.node.status().role is RaftRole.LEADER
        return int(self.node.raftCurrentTerm)

    def append(self, term: int, previous: tuple[int, int], *entries: Any, commit: int = 1) -> None:
        self.hears(
            "a",
            "append_entries",
            term=term,
            commit_index=commit,
            entries=list(entries),
            prevLogIdx=previous[0],
            prevLogTerm=previous[1],
        )


@pytest.fixture
def new_voter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = {"now": 100.0}
    monkeypatch.setattr(layer, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", lambda: clock["now"])
    return lambda voters=("me", "a", "b"): Voter(tmp_path, clock, voters)


@pytest.fixture
def voter(new_voter: Any) -> Any:
    return new_voter()


def entry(index: int, term: int) -> tuple[bytes, int, int]:
    return b"\0" + PAYLOAD, index, term
