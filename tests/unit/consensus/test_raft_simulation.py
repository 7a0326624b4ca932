"""Voters in one process, with a clock, links and disks that the test holds in its hands."""

from __future__ import annotations

import os
import random
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import pysyncobj.node
import pysyncobj.syncobj
import pytest
from pysyncobj.transport import Transport

from sappers.config import RaftSettings
from sappers.consensus import layer
from sappers.consensus.journal import Journal
from sappers.consensus.layer import RaftNode
from sappers.consensus.snapshot import SnapshotStore
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry, Proposal, PutImage, PutWorkload, encode_proposal
from sappers.model.image import ClusterImage
from sappers.model.observation import RaftRole
from sappers.model.workload import ImageReference, Workload

SETTINGS = RaftSettings(compaction_min_entries=15)


class Network:
    """Links that deliver in order, lose all on a cut, and cut when told."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.queues: dict[tuple[str, str], deque[dict[str, Any]]] = defaultdict(deque)
        self.cut: set[frozenset[str]] = set()
        self.transports: dict[str, SimulatedTransport] = {}

    def connect_all(self) -> None:
        for one in self.transports.values():
            for other in self.transports.values():
                self.set_link(one.me, other.me, up=True)

    def set_link(self, a: str, b: str, *, up: bool) -> None:
        pair = frozenset((a, b))
        if len(pair) == 1 or up == (pair not in self.cut and self.is_known(a, b)):
            return
        for source, target in ((a, b), (b, a)):
            self.queues[source, target].clear()
            if source in self.transports and (not up or target in self.transports):
                self.transports[source].set_connected(target, up=up)
        (self.cut.discard if up else self.cut.add)(pair)

    def is_known(self, a: str, b: str) -> bool:
        return a in self.transports and b in self.transports[a].connected

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
        self.connected: set[str] = set()
        network.transports[me] = self

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        if node.id not in self.connected:
            return False
        copied = {k: list(v) if isinstance(v, list) else v for k, v in message.items()}
        self.network.queues[self.me, node.id].append(copied)
        return True

    def has_room(self, node: Any) -> bool:
        return self.network.chance.random() < 0.7

    def take(self, source: str, message: dict[str, Any]) -> None:
        if source in self.connected:
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
        folder = world.folder / me
        folder.mkdir(exist_ok=True)
        self.journal = Journal(folder)
        self.node = RaftNode(
            me,
            world.voters,
            self.journal,
            PatientStore(folder / "snapshot"),
            SimulatedTransport(me, world.network),
            SETTINGS,
            self,
        )

    def on_snapshot(self, snapshot: Any) -> None:
        self.world.installs += 1

    def on_applied(self, entry: Entry) -> None:
        self.world.applied(entry)

    def lose_power(self) -> None:
        """Whatever was not synced never reaches the disk."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.journal._file._file.fileno())
        os.close(nowhere)


class Answered:
    def __init__(self, world: World, request_id: str) -> None:
        self.world = world
        self.request_id = request_id

    def done(self, index: int, term: int, refused: str) -> None:
        assert not refused
        self.world.acknowledged[self.request_id] = (index, term)

    def rejected(self, reason: str) -> None:
        self.world.rejected.add(self.request_id)

    def unknown(self, reason: str) -> None:
        pass


class World:
    """Everything, and the rules that must hold in every run."""

    def __init__(self, folder: Path, seed: int, voters: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.voters = tuple(f"v{number}" for number in range(voters))
        self.network = Network(self.chance)
        self.running: dict[str, SimulatedVoter] = {}
        self.committed: dict[int, Entry] = {}
        self.acknowledged: dict[str, tuple[int, int]] = {}
        self.rejected: set[str] = set()
        self.leaders: dict[int, str] = {}
        self.proposed = 0
        self.installs = 0
        for voter in self.voters:
            self.start(voter)

    def start(self, voter: str) -> None:
        self.running[voter] = SimulatedVoter(voter, self)
        for other in self.running:
            if frozenset((voter, other)) not in self.network.cut:
                self.network.set_link(voter, other, up=True)

    def crash(self, voter: str) -> None:
        for other in self.running:
            if other != voter:
                self.network.transports[other].set_connected(voter, up=False)
            self.network.queues[voter, other].clear()
            self.network.queues[other, voter].clear()
        self.running.pop(voter).lose_power()
        del self.network.transports[voter]

    def applied(self, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"two entries are committed at index {entry.index}"

    def step(self) -> None:
        self.now += 0.01
        self.network.deliver()
        for voter in list(self.running.values()):
            if self.chance.random() < 0.9:
                voter.node.tick()
                status = voter.node.status()
                if status.role is RaftRole.LEADER:
                    first = self.leaders.setdefault(status.term, voter.me)
                    assert first == voter.me, f"two leaders in term {status.term}"

    def propose(self) -> None:
        leaders = [v for v in self.running.values() if v.node.status().role is RaftRole.LEADER]
        if leaders:
            self.proposed += 1
            name = f"w{self.proposed}"
            image = ClusterImage("i", "0" * 64, "microvm", 1, 0.0)
            workload = Workload(name, ImageReference(image.name, image.digest))
            commands = (PutImage(image), PutWorkload(workload))
            payload = encode_proposal(Proposal(name, "me", 0.0, commands))
            self.chance.choice(leaders).node.propose(payload, Answered(self, name))

    def states(self) -> list[ClusterState]:
        return [voter.node.state for voter in self.running.values()]

    def settle(self) -> None:
        """Heal everything and wait until all voters agree."""
        for voter in self.voters:
            if voter not in self.running:
                self.start(voter)
        self.network.connect_all()
        for _ in range(3000):
            self.step()
            indexes = {voter.node.raftLastApplied for voter in self.running.values()}
            ends = {voter.journal[-1][1] for voter in self.running.values()}
            if self.leader_in_charge() and len(indexes | ends) == 1:
                return
        raise AssertionError([voter.node.status() for voter in self.running.values()])

    def leader_in_charge(self) -> bool:
        statuses = [voter.node.status() for voter in self.running.values()]
        return len({status.leader_id for status in statuses} | {None}) == 2 and any(
            status.role is RaftRole.LEADER for status in statuses
        )

    def check(self) -> None:
        first, *others = self.states()
        assert all(state == first for state in others)
        for name, (index, term) in self.acknowledged.items():
            assert name in first.workloads, f"{name} was acknowledged and is lost"
            assert self.committed[index].term == term
        for name in self.rejected:
            assert name not in first.workloads, f"{name} was rejected and took effect"


@pytest.fixture
def new_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the page cache is the disk here
    monkeypatch.setattr(os, "fdatasync", lambda _: None)

    def make(seed: int, voters: int = 3) -> World:
        random.seed(seed)
        holder: list[World] = []
        clock = lambda: holder[0].now if holder else 1000.0  # noqa: E731
        monkeypatch.setattr(layer, "monotonic", clock)
        monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", clock)
        holder.append(World(tmp_path, seed, voters))
        return holder[0]

    return make


def test_a_quiet_cluster_elects_once_and_commits(new_world: Any) -> None:
    world = new_world(seed=1)
    world.settle()
    for _ in range(10):
        world.propose()
        world.step()
    world.settle()
    world.check()
    assert len(world.acknowledged) == 10
    assert len(world.leaders) == 1


@pytest.mark.parametrize("seed", range(12))
def test_crashes_and_cuts_lose_nothing(new_world: Any, seed: int) -> None:
    world = new_world(seed, voters=3 if seed % 3 else 5)
    chance = world.chance
    for _ in range(1500):
        world.step()
        if chance.random() < 0.4:
            world.propose()
        if chance.random() < 0.02 and world.running:
            world.crash(chance.choice(sorted(world.running)))
        if chance.random() < 0.05:
            stopped = [voter for voter in world.voters if voter not in world.running]
            if stopped:
                world.start(chance.choice(stopped))
        if chance.random() < 0.02:
            a, b = chance.sample(world.voters, 2)
            world.network.set_link(a, b, up=False)
        if chance.random() < 0.03 and world.network.cut:
            a, b = sorted(chance.choice(sorted(world.network.cut, key=sorted)))
            world.network.set_link(a, b, up=True)
    world.settle()
    world.check()
    assert world.acknowledged
