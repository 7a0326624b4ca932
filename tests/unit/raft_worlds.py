"""Voters in one process, with a clock, links and disks that the test holds in its hands."""

from __future__ import annotations

import os
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pysyncobj.node
import pysyncobj.syncobj
import pytest
from pysyncobj.transport import Transport

from sappers.config import RaftSettings
from sappers.consensus import layer
from sappers.consensus.joining import joiners_record
from sappers.consensus.journal import Journal
from sappers.consensus.layer import RaftNode
from sappers.consensus.snapshot import SnapshotStore
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    AddVoter,
    Command,
    Entry,
    FoundCluster,
    Proposal,
    PutImage,
    PutWorkload,
    RemoveVoter,
    encode_proposal,
)
from sappers.model.image import ClusterImage
from sappers.model.observation import RaftRole
from sappers.model.view import Genesis
from sappers.model.workload import ImageReference, Workload

SETTINGS = RaftSettings(compaction_min_entries=15)


class Network:
    """Links that deliver in order, lose all on a cut, and cut when told."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.queues: dict[tuple[str, str], deque[dict[str, Any]]] = defaultdict(deque)
        self.cut: set[frozenset[str]] = set()
        self.transports: dict[str, SimulatedTransport] = {}

    def set_link(self, a: str, b: str, *, up: bool) -> None:
        (self.cut.discard if up else self.cut.add)(frozenset((a, b)))
        self.reconcile()

    def reconcile(self) -> None:
        """Connect who knows each other and part the others, who are told what a link tells."""
        names = sorted(self.transports)
        for a, b in ((a, b) for a in names for b in names if a < b):
            one, other = self.transports[a], self.transports[b]
            if frozenset((a, b)) in self.cut:
                self.part(a, b)
            elif one.knows(b) and other.knows(a):
                one.set_connected(b, up=True)
                other.set_connected(a, up=True)
            elif not self.queues[a, b] and not self.queues[b, a]:
                self.part(a, b)
                self.bid_farewell(one, other)
                self.bid_farewell(other, one)

    def part(self, a: str, b: str) -> None:
        for source, target in ((a, b), (b, a)):
            self.queues[source, target].clear()
            if source in self.transports:
                self.transports[source].set_connected(target, up=False)

    def bid_farewell(self, host: SimulatedTransport, guest: SimulatedTransport) -> None:
        if host.me in guest.peers and (message := host.farewell(guest.me)):
            guest._onMessageReceived(pysyncobj.node.Node(host.me), message)

    def deliver(self) -> None:
        chance = self.chance
        links = [link for link, queue in self.queues.items() if queue]
        chance.shuffle(links)
        for source, target in links:
            for _ in range(chance.randint(0, 3)):
                if not (queue := self.queues[source, target]):
                    break
                message = queue.popleft()
                if target in self.transports:
                    self.transports[target].take(source, message)


class SimulatedTransport(Transport):
    def __init__(self, me: str, network: Network) -> None:
        super().__init__(None, None, [])
        self.me = me
        self.network = network
        self.peers: set[str] = set()
        self.introduced: set[str] = set()
        self.connected: set[str] = set()
        self.farewell: Callable[[str], dict[str, Any] | None] = lambda _: None
        network.transports[me] = self

    def addNode(self, node: Any) -> None:  # noqa: N802
        self.peers.add(node.id)

    def dropNode(self, node: Any) -> None:  # noqa: N802
        self.peers.discard(node.id)

    def introduce(self, others: Iterable[str]) -> None:
        """Listen to these, too, as an agent asks for while its voter knows no leader."""
        self.introduced = set(others) - {self.me}

    def knows(self, peer: str) -> bool:
        return peer in self.peers or peer in self.introduced

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        if node.id not in self.connected:
            return False
        copied = {k: list(v) if isinstance(v, list) else v for k, v in message.items()}
        self.network.queues[self.me, node.id].append(copied)
        return True

    def has_room(self, node: Any) -> bool:
        return self.network.chance.random() < 0.7

    def tells_time(self, node: Any) -> bool:
        return node.id in self.connected

    def take(self, source: str, message: dict[str, Any]) -> None:
        if source in self.connected and self.knows(source):
            self._onMessageReceived(pysyncobj.node.Node(source), message)

    def set_connected(self, peer: str, *, up: bool) -> None:
        if up and peer not in self.connected:
            self.connected.add(peer)
            self._onNodeConnected(pysyncobj.node.Node(peer))
        elif not up and peer in self.connected:
            self.connected.discard(peer)
            self._onNodeDisconnected(pysyncobj.node.Node(peer))


class PatientStore(SnapshotStore):
    """Writes before it returns, so that a run can be repeated."""

    def serialize(self, data: Any, id: int) -> None:
        super().serialize(data, id)
        if self._writer is not None:
            self._writer.join()


class SimulatedVoter:
    def __init__(self, me: str, world: World) -> None:
        self.me = me
        self.world = world
        self.removed_at: int | None = None
        self.snapshots_taken_over = 0
        folder = world.folder / me
        folder.mkdir(exist_ok=True)
        genesis = world.records.get(me, world.genesis)
        self.journal = Journal(folder, first_term=genesis.term)
        self.node = world.node_class(
            me,
            genesis,
            self.journal,
            PatientStore(folder / "snapshot"),
            SimulatedTransport(me, world.network),
            world.settings,
            self,
        )

    def on_snapshot(self, snapshot: Any) -> None:
        self.snapshots_taken_over += 1

    def on_applied(self, entry: Entry) -> None:
        self.world.applied(entry)

    def on_removed(self, index: int) -> None:
        self.removed_at = index

    def lose_power(self) -> None:
        """Whatever was not synced never reaches the disk."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.journal._file._file.fileno())
        os.close(nowhere)


class Answered:
    """What became of one proposal: `done`, `rejected`, `unknown`, or nothing yet."""

    def __init__(self) -> None:
        self.outcome = ""
        self.index = self.term = 0
        self.reason = ""

    def done(self, index: int, term: int, refused: str) -> None:
        assert not self.outcome, "one proposal has one outcome"
        self.outcome, self.index, self.term, self.reason = "done", index, term, refused

    def rejected(self, reason: str) -> None:
        assert not self.outcome, "one proposal has one outcome"
        self.outcome, self.reason = "rejected", reason

    def unknown(self, reason: str) -> None:
        assert not self.outcome, "one proposal has one outcome"
        self.outcome, self.reason = "unknown", reason


class World:
    """Everything, and the rules that must hold in every run."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        voters: int,
        node_class: type[RaftNode] = RaftNode,
        settings: RaftSettings = SETTINGS,
    ) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.node_class = node_class
        self.settings = settings
        self.voters = tuple(f"v{number}" for number in range(voters))
        self.genesis = Genesis("cluster", "v0", self.voters, {})
        self.records: dict[str, Genesis] = {}  # of voters that were added later
        self.network = Network(self.chance)
        self.running: dict[str, SimulatedVoter] = {}
        self.committed: dict[int, Entry] = {}
        self.answers: dict[str, Answered] = {}
        self.changes: list[Answered] = []
        self.leaders: dict[int, str] = {}
        self.latest: dict[str, SimulatedVoter] = {}  # those that stopped, too
        self.dismissed: set[str] = set()  # were told that they have no vote
        self.proposed = 0

    def start_all(self) -> None:
        for voter in self.voters:
            self.start(voter)

    def start(self, voter: str) -> SimulatedVoter:
        self.running[voter] = self.latest[voter] = SimulatedVoter(voter, self)
        self.network.reconcile()
        return self.running[voter]

    def crash(self, voter: str) -> None:
        for other in self.running:
            if other != voter:
                self.network.part(voter, other)
        self.running.pop(voter).lose_power()
        del self.network.transports[voter]

    def applied(self, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"two entries are committed at index {entry.index}"

    def step(self) -> None:
        self.now += 0.01
        self.network.reconcile()
        self.network.deliver()
        for voter in list(self.running.values()):
            if self.chance.random() < 0.9:
                voter.node.tick()
                status = voter.node.status()
                if status.role is RaftRole.LEADER:
                    first = self.leaders.setdefault(status.term, voter.me)
                    assert first == voter.me, f"two leaders in term {status.term}"
                if voter.removed_at is not None:
                    self.dismissed.add(voter.me)
                    self.crash(voter.me)

    def run_until(self, condition: Callable[[], bool], steps: int = 3000) -> None:
        for _ in range(steps):
            if condition():
                return
            self.step()
        raise AssertionError([voter.node.status() for voter in self.running.values()])

    # What clients ask

    def leaders_now(self) -> list[SimulatedVoter]:
        return [v for v in self.running.values() if v.node.status().role is RaftRole.LEADER]

    def leader(self) -> SimulatedVoter:
        """The leader, once there is just one and all that can hear it know it."""
        self.run_until(lambda: bool(self.leaders_now()) and self.leader_in_charge())
        return self.leaders_now()[0]

    def propose(self, voter: SimulatedVoter | None = None) -> str:
        """Create a workload at a leader, named as the request; empty while nobody leads."""
        leaders = [voter] if voter else self.leaders_now()
        if not leaders:
            return ""
        self.proposed += 1
        name = f"w{self.proposed}"
        image = ClusterImage("i", "0" * 64, "microvm", 1, 0.0)
        workload = Workload(name, ImageReference(image.name, image.digest))
        answer = self.answers[name] = Answered()
        payload = proposal(name, PutImage(image), PutWorkload(workload))
        self.chance.choice(leaders).node.propose(payload, answer)
        return name

    def write(self) -> str:
        """A workload that is acknowledged."""
        name = self.propose(self.leader())
        self.run_until(lambda: self.answers[name].outcome == "done")
        return name

    def found(self) -> None:
        answer = Answered()
        found = FoundCluster(self.genesis.cluster_id, self.genesis.voters)
        self.leader().node.propose(proposal("found", found), answer)
        self.run_until(lambda: answer.outcome == "done")

    def change(self, command: AddVoter | RemoveVoter, at: SimulatedVoter | None = None) -> Answered:
        """Ask for a change of the electorate; the answer comes later."""
        self.proposed += 1
        answer = Answered()
        self.changes.append(answer)
        payload = proposal(f"change-{self.proposed}", command)
        (at or self.leader()).node.change_electorate(payload, answer)
        return answer

    def add(self, voter: str) -> None:
        """Give a vote, and start the new voter once that is committed."""
        leader = self.insist(AddVoter(voter, ""))
        self.records[voter] = joiners_record(leader.node.state)
        self.start(voter)

    def remove(self, voter: str) -> None:
        self.insist(RemoveVoter(voter))

    def insist(self, command: AddVoter | RemoveVoter) -> SimulatedVoter:
        """Ask until it is done; who led then."""
        while True:
            leader = self.leader()
            answer = self.change(command, leader)
            self.run_until(lambda answer=answer: bool(answer.outcome))  # type: ignore[misc]
            if answer.outcome == "done":
                return leader

    def transfer(self, target: str) -> Answered:
        answer = Answered()
        self.leader().node.transfer(target, 5.0, answer)
        self.run_until(lambda: bool(answer.outcome))
        return answer

    # What must hold

    def newest_state(self) -> ClusterState:
        """The newest that was ever applied anywhere."""
        states = [voter.node.state for voter in self.latest.values()]
        return max(states, key=lambda state: state.index)

    def states(self) -> list[ClusterState]:
        return [voter.node.state for voter in self.running.values()]

    def settle(self) -> None:
        """Heal everything and wait until all voters agree."""
        for voter in self.voters:
            if voter not in self.running:
                self.start(voter)
        self.network.cut.clear()
        self.run_until(self.agree)

    def agree(self) -> bool:
        """Whether all have applied all, under one leader."""
        indexes = {voter.node.raftLastApplied for voter in self.running.values()}
        ends = {voter.journal[-1][1] for voter in self.running.values()}
        return self.leader_in_charge() and len(indexes | ends) == 1

    def leader_in_charge(self) -> bool:
        statuses = [voter.node.status() for voter in self.running.values()]
        return len({status.leader_id for status in statuses} | {None}) == 2 and any(
            status.role is RaftRole.LEADER for status in statuses
        )

    def acknowledged(self) -> list[str]:
        return [name for name, answer in self.answers.items() if answer.outcome == "done"]

    def check(self) -> None:
        first, *others = self.states()
        assert all(state == first for state in others)
        for name, answer in self.answers.items():
            if answer.outcome == "done":
                assert name in first.workloads, f"{name} was acknowledged and is lost"
                assert self.committed[answer.index].term == answer.term
            elif answer.outcome == "rejected":
                assert name not in first.workloads, f"{name} was rejected and took effect"


def proposal(request_id: str, *commands: Command) -> bytes:
    return encode_proposal(Proposal(request_id, "me", 0.0, commands))


NewWorld = Callable[..., World]


@pytest.fixture
def new_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewWorld:
    """Makes a world of so many voters, all of them running, on a clock of its own."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the page cache is the disk here
    monkeypatch.setattr(os, "fdatasync", lambda _: None)

    def make(seed: int, voters: int = 3, **settings: Any) -> World:
        random.seed(seed)
        world = World(tmp_path, seed, voters, **settings)
        monkeypatch.setattr(layer, "monotonic", lambda: world.now)
        monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", lambda: world.now)
        world.start_all()
        return world

    return make
