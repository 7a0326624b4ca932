"""Voters as they run on hosts: real raft processes, real TLS on loopback, real kills."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from sappers.agent.clock import SystemClock
from sappers.config import RaftSettings
from sappers.consensus.follower_log import FollowerLog
from sappers.consensus.framing import FrameConnection, Frames, frame
from sappers.consensus.joining import joiners_record
from sappers.consensus.raft_log import RaftLog
from sappers.consensus.raft_process import StartProcess, start_raft_process
from sappers.consensus.snapshot import load_state
from sappers.consensus.wire import Hello
from sappers.errors import LogDamaged, OutcomeUnknown, ProposalRejected, SappersError
from sappers.model.commands import (
    Entry,
    FoundCluster,
    NoOperation,
    Proposal,
    PutImage,
    PutWorkload,
    RegisterMember,
    RevokeMember,
)
from sappers.model.image import ClusterImage
from sappers.model.observation import RaftRole
from sappers.model.view import Genesis
from sappers.model.workload import ImageReference, Workload
from sappers.security.authority import create_authority
from sappers.security.identity import load_identity
from sappers.security.tls import client_context
from tests.fake_member import make_member
from tests.identities import make_identity
from tests.loopback import free_port
from tests.waiting import eventually

CLUSTER_ID = "cluster-under-test"


class Cluster:
    def __init__(self, root: Path, voters: int, settings: RaftSettings) -> None:
        self.root = root
        self.settings = settings
        self.authority = create_authority("lab")
        ids = [f"node-{number}" for number in range(voters)]
        self.ports = {node: free_port() for node in ids}
        addresses = {node: f"127.0.0.1:{port}" for node, port in self.ports.items()}
        self.genesis = Genesis(CLUSTER_ID, ids[0], tuple(ids), addresses)
        self.renewed = 0  # how often a certificate was replaced
        self.start_process = start_raft_process
        self.listen: dict[str, tuple[str, int]] = {}  # of those that listen elsewhere
        self.records: dict[str, Genesis] = {}  # of voters that were added later
        self.moved: dict[str, str] = {}
        for node in ids:
            make_identity(root, node, self.authority)
        self.logs = {node: self.log_of(node) for node in ids}
        self.proposed = 0

    def log_of(self, node: str) -> RaftLog:
        return RaftLog(
            node,
            self.records.get(node, self.genesis),
            self.root / node / "raft",
            load_identity(self.root / node / "pki"),
            self.settings,
            self.listen.get(node, ("127.0.0.1", self.ports[node])),
            self.moved.get,
            SystemClock(),
            start_process=self.start_process,
            renewals=lambda: self.renewed,
        )

    def found(self) -> Proposal:
        return Proposal("f", "node-0", 1.0, (FoundCluster(CLUSTER_ID, self.genesis.voters),))

    async def insist(self, ask: Callable[[RaftLog], Awaitable[object]]) -> RaftLog:
        """Ask the leader until it agrees; a new one needs a moment. Who led then."""
        while True:
            leader = await self.leader()
            try:
                await ask(leader)
            except ProposalRejected:
                await asyncio.sleep(0.05)
            else:
                return leader

    async def write(self, but: Iterable[str] = (), timeout_seconds: float = 5.0) -> str:
        """Have one more workload created, though leaders may change; its name.

        Where the outcome is not known the same is asked again: it takes effect once.
        """
        proposal = self.proposal()
        while True:
            leader = await self.leader(but)
            with contextlib.suppress(ProposalRejected, OutcomeUnknown):
                await leader.propose(proposal, timeout_seconds)
                return proposal.request_id
            await asyncio.sleep(0.01)

    async def join(self, node: str) -> None:
        """Give one more member a vote, and start it once that is committed."""
        self.ports[node] = free_port()
        make_identity(self.root, node, self.authority)
        address = f"127.0.0.1:{self.ports[node]}"
        leader = await self.insist(lambda one: one.add_voter(node, address, 5.0))
        self.records[node] = joiners_record(leader.state(), self.genesis)
        self.logs[node] = self.log_of(node)
        await self.logs[node].start()

    async def start(self) -> None:
        await asyncio.gather(*(log.start() for log in self.logs.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(log.stop() for log in self.logs.values()))

    async def restart(self, node: str) -> RaftLog:
        await self.logs[node].stop()
        self.logs[node] = self.log_of(node)
        await self.logs[node].start()
        return self.logs[node]

    async def leader(self, but: Iterable[str] = ()) -> RaftLog:
        def leading() -> list[RaftLog]:
            return [
                log
                for node, log in self.logs.items()
                if node not in but and log.status().role is RaftRole.LEADER
            ]

        await until(lambda: bool(leading()), self.logs.values())
        return leading()[0]

    def name_of(self, log: RaftLog) -> str:
        return next(node for node, one in self.logs.items() if one is log)

    def proposal(self) -> Proposal:
        """Creates a workload named as the request, so that the state shows that it took effect."""
        self.proposed += 1
        name = f"w{self.proposed}"
        image = ClusterImage("hello", "0" * 64, "microvm", 1, 0.0)
        workload = Workload(name, ImageReference(image.name, image.digest))
        commands = (PutImage(image), PutWorkload(workload))
        return Proposal(name, "node-0", time.time(), commands)

    async def agree(self, nodes: Iterable[str] | None = None) -> None:
        """Wait until all have applied the same index, and check that the states are equal."""
        logs = [self.logs[node] for node in nodes or self.logs]
        index = 0
        while not index:
            with contextlib.suppress(ProposalRejected, OutcomeUnknown):
                index = (await (await self.leader()).read_barrier(2.0)).index
        await until(lambda: all(log.state().index >= index for log in logs), logs)
        assert all(log.state().workloads == logs[0].state().workloads for log in logs)


async def until(
    condition: Callable[[], bool],
    logs: Iterable[RaftLog | FollowerLog],
    timeout_seconds: float = 60.0,
) -> None:
    """Wait for a condition that can only change when a log tells of a change."""
    news = asyncio.Event()

    async def listen(log: RaftLog | FollowerLog) -> None:
        async for _ in log.changes():
            news.set()

    async with asyncio.timeout(timeout_seconds), asyncio.TaskGroup() as group:
        tasks = [group.create_task(listen(log)) for log in logs]
        await asyncio.sleep(0)  # let them begin to listen
        while not condition():
            news.clear()
            await news.wait()
        for task in tasks:
            task.cancel()


StartCluster = Callable[..., Awaitable[Cluster]]


@pytest.fixture
async def start_cluster(tmp_path: Path) -> AsyncIterator[StartCluster]:
    started: list[Cluster] = []

    async def start(voters: int = 3, settings: RaftSettings | None = None) -> Cluster:
        cluster = Cluster(tmp_path, voters, settings or RaftSettings())
        started.append(cluster)
        await cluster.start()
        return cluster

    yield start
    for cluster in started:
        await cluster.stop()


def kill(log: RaftLog, number: signal.Signals = signal.SIGKILL) -> None:
    assert log.process_id is not None
    with contextlib.suppress(ProcessLookupError):  # it may be down from the kill before
        os.kill(log.process_id, number)


def resident_kib(log: RaftLog) -> int:
    lines = Path(f"/proc/{log.process_id}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def test_three_elect_one_and_replicate(start_cluster: StartCluster) -> None:
    cluster = await start_cluster()
    leader = await cluster.leader()
    found = cluster.found()
    applied = await leader.propose(found, 30.0)
    assert applied.refused == ""
    assert leader.state().cluster_id == CLUSTER_ID
    assert (applied.index, applied.term) == (leader.state().index, leader.status().term)
    await cluster.agree()
    assert [log.status().role for log in cluster.logs.values()].count(RaftRole.LEADER) == 1
    again = await leader.propose(found, 5.0)
    assert again.index > applied.index
    assert len(leader.state().events) == 1, "the same request is not applied twice"
    entries = leader.entries_after(applied.index - 1, 10)
    assert entries is not None
    assert entries[0].index == applied.index
    follower = next(log for log in cluster.logs.values() if log is not leader)
    with pytest.raises(ProposalRejected, match="does not lead"):
        await follower.propose(cluster.proposal(), 5.0)


async def test_every_voter_is_replaced_while_writes_go_on(start_cluster: StartCluster) -> None:
    cluster = await start_cluster(voters=1)
    await (await cluster.leader()).propose(cluster.found(), 5.0)
    for node in ("node-1", "node-2", "node-3"):
        await cluster.join(node)
        await cluster.write()
    first = cluster.logs["node-0"]
    while (leader := await cluster.leader()) is first:
        with contextlib.suppress(ProposalRejected, OutcomeUnknown):
            await leader.transfer_leadership("node-2", 5.0)
    await cluster.insist(lambda leader: leader.remove_voter("node-0", 5.0))
    await until(lambda: first.status().is_removed, [first])
    assert await first._raft.process.wait() == 0  # type: ignore[union-attr]
    electorate = ("node-1", "node-2", "node-3")
    await cluster.agree(electorate)
    logs = [cluster.logs[node] for node in electorate]
    await until(lambda: {log.status().electorate for log in logs} == {electorate}, logs)
    assert {log.state().electorate for log in logs} == {electorate}
    again = await cluster.restart("node-0")  # its folder still says that it votes
    await until(lambda: again.status().is_removed, [again])


async def test_a_survivor_goes_on_alone_and_a_damaged_voter_begins_again(
    start_cluster: StartCluster,
) -> None:
    cluster = await start_cluster()
    await (await cluster.leader()).propose(cluster.found(), 5.0)
    written = await cluster.write()
    await cluster.agree()
    survivor, damaged, lost = cluster.logs.values()
    with pytest.raises(ProposalRejected, match="not lost"):
        await survivor.recover_alone(5.0)
    await asyncio.gather(damaged.stop(), lost.stop())
    del cluster.logs["node-1"], cluster.logs["node-2"]
    await until(lambda: survivor.status().leader_id is None, [survivor])
    await survivor.recover_alone(15.0)
    assert survivor.state().electorate == ("node-0",)
    assert written in survivor.state().workloads
    later = cluster.proposal()
    await survivor.propose(later, 5.0)
    # What is damaged is put away, and the same member is given a new vote.
    folder = cluster.root / "node-1" / "raft"
    folder.rename(folder.with_name("raft-damaged"))
    await survivor.add_voter("node-1", f"127.0.0.1:{cluster.ports['node-1']}", 5.0)
    cluster.records["node-1"] = joiners_record(survivor.state(), cluster.genesis)
    again = cluster.logs["node-1"] = cluster.log_of("node-1")
    await again.start()
    await cluster.agree()
    assert later.request_id in again.state().workloads
    kept = cluster.logs["node-2"] = cluster.log_of("node-2")  # comes back after all
    await kept.start()
    await until(lambda: kept.status().is_removed, [kept])


async def test_one_voter_alone_works(start_cluster: StartCluster) -> None:
    cluster = await start_cluster(voters=1)
    leader = await cluster.leader()
    for _ in range(20):
        await leader.propose(cluster.proposal(), 5.0)
    before = leader.state()
    again = await cluster.restart("node-0")
    await cluster.leader()
    await again.read_barrier(5.0)
    assert again.state().workloads == before.workloads


async def test_a_killed_leader_is_succeeded_ten_times(start_cluster: StartCluster) -> None:
    cluster = await start_cluster()
    outages = []
    for _ in range(10):
        leader = await cluster.leader()
        await cluster.agree()
        dead, since = cluster.name_of(leader), time.monotonic()
        kill(leader)
        await cluster.logs[dead]._raft.process.wait()  # type: ignore[union-attr]
        await cluster.write(timeout_seconds=2.0)
        outages.append((time.monotonic() - since) * 1000)
    await cluster.agree()
    # How long the longest took is the machine's doing, too: `make bench-consensus` measures it.
    print(f"failover ms: median {statistics.median(outages):.0f}, max {max(outages):.0f}")
    assert statistics.median(outages) < 2000


async def test_kill_of_all_loses_nothing_acknowledged(start_cluster: StartCluster) -> None:
    cluster = await start_cluster(settings=RaftSettings(compaction_min_entries=40))
    acknowledged: set[str] = set()
    stopping = asyncio.Event()

    async def write() -> None:
        while not stopping.is_set():
            leader, proposal = await cluster.leader(), cluster.proposal()
            with contextlib.suppress(ProposalRejected, OutcomeUnknown):
                await leader.propose(proposal, 2.0)
                acknowledged.add(proposal.request_id)

    async with asyncio.TaskGroup() as writers:
        for _ in range(8):
            writers.create_task(write())
        for enough in (300, 600, 900, 1200):
            await until(lambda: len(acknowledged) >= enough, cluster.logs.values())  # noqa: B023
            for log in cluster.logs.values():
                kill(log)
        stopping.set()
    await cluster.agree()
    for log in cluster.logs.values():
        assert acknowledged <= set(log.state().workloads)
    # And all of it is on disk: new adapters read it back from snapshot and journal.
    for node in cluster.logs:
        assert (cluster.root / node / "raft" / "snapshot").exists()
        await cluster.restart(node)
    await cluster.agree()
    for log in cluster.logs.values():
        assert acknowledged <= set(log.state().workloads)
    print(f"{len(acknowledged)} acknowledged writes through 4 kills of all")


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
async def test_the_kernel_is_told_to_sync_before_the_agent_is_told(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1, RaftSettings())
    trace = tmp_path / "calls"
    cluster.start_process = traced(trace)
    cluster.logs = {"node-0": cluster.log_of("node-0")}
    await cluster.start()
    leader = await cluster.leader()
    for _ in range(5):
        await leader.propose(cluster.proposal(), 10.0)
    await cluster.stop()
    written = told = synced = 0
    for line in trace.read_text().splitlines():
        call = line.partition("(")[0].split()[-1]
        if call == "pwrite64" and "Jr" in line:  # the mark of a record in the journal
            written += 1
        elif call == "fdatasync":
            synced = written
        elif call.startswith("send") and "done" in line:
            told += 1
            assert synced == written, "told of an entry that was not synced"
    assert told == 5
    assert written >= 5


def traced(trace: Path) -> StartProcess:
    """A raft process whose writes, syncs and words to the agent are recorded, in order."""
    calls = "trace=pwrite64,fdatasync,sendto,sendmsg"
    return started_by("strace", "-f", "-s", "4096", "-o", str(trace), "-e", calls)


def started_by(*words: str) -> StartProcess:
    """A raft process that another command starts."""

    async def start(end: FrameConnection) -> asyncio.subprocess.Process:
        mine, theirs = socket.socketpair()
        module = (sys.executable, "-P", "-m", "sappers.consensus.process", str(theirs.fileno()))
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(*words, *module),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        await asyncio.get_running_loop().create_unix_connection(lambda: end, sock=mine)
        return process

    return start


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def namespaces() -> Iterator[list[str]]:
    """Three network namespaces on one bridge, which is in a fourth; 10.213.7.1 to .3."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and ip")
    mark = f"raft{os.getpid()}"
    names = [f"{mark}n{number}" for number in (1, 2, 3)]
    made = [f"{mark}sw", *names]
    try:
        for name in made:
            run("ip", "netns", "add", name)
        run("ip", "-n", made[0], "link", "add", "br0", "up", "type", "bridge")
        for number, name in enumerate(names, 1):
            port = f"p{number}"
            to_name = ("type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "-n", made[0], "link", "add", port, *to_name)
            run("ip", "-n", made[0], "link", "set", port, "master", "br0", "up")
            run("ip", "-n", name, "address", "add", f"10.213.7.{number}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield names
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    finally:
        for name in made:
            subprocess.run(("ip", "netns", "delete", name), check=False, capture_output=True)


async def test_a_leader_that_is_cut_off_yields_and_confirms_no_read(
    tmp_path: Path, namespaces: list[str]
) -> None:
    cluster = Cluster(tmp_path, 3, RaftSettings())
    places = dict(zip(cluster.logs, namespaces, strict=True))
    addresses = {node: f"10.213.7.{n}:12000" for n, node in enumerate(cluster.logs, 1)}
    cluster.genesis = msgspec.structs.replace(cluster.genesis, addresses=addresses)
    for number, (node, namespace) in enumerate(places.items(), 1):
        cluster.listen[node] = (f"10.213.7.{number}", 12000)
        cluster.start_process = started_by("ip", "netns", "exec", namespace)
        cluster.logs[node] = cluster.log_of(node)
    await cluster.start()
    try:
        old = await cluster.leader()
        written = cluster.proposal()
        await old.propose(written, 5.0)
        name = cluster.name_of(old)
        run("ip", "-n", places[name], "link", "set", "eth0", "down")
        with pytest.raises((OutcomeUnknown, ProposalRejected)):
            await old.read_barrier(3.0)
        await until(lambda: old.status().role is not RaftRole.LEADER, [old])
        newer = await cluster.write(but=[name])
        assert newer not in old.state().workloads
        with pytest.raises((OutcomeUnknown, ProposalRejected)):
            await old.read_barrier(1.0)
        run("ip", "-n", places[name], "link", "set", "eth0", "up")
        await until(lambda: newer in old.state().workloads, [old])
    finally:
        await cluster.stop()


async def test_a_stopped_leader_says_nothing_false(start_cluster: StartCluster) -> None:
    cluster = await start_cluster()
    old = await cluster.leader()
    name = cluster.name_of(old)
    await cluster.write()
    kill(old, signal.SIGSTOP)
    frozen = [cluster.proposal() for _ in range(5)]
    asked = [asyncio.create_task(old.propose(p, 6.0)) for p in frozen]
    await cluster.write(but=[name])
    await asyncio.sleep(3.0)  # longer than any time-out of the others
    kill(old, signal.SIGCONT)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(o, OutcomeUnknown | ProposalRejected) for o in outcomes), outcomes
    await cluster.agree()
    for proposal, outcome in zip(frozen, outcomes, strict=True):
        if isinstance(outcome, ProposalRejected):
            assert proposal.request_id not in old.state().workloads
    logs = cluster.logs.values()
    await until(lambda: len({log.status().term for log in logs}) == 1, logs)


async def test_a_lagging_voter_catches_up_by_snapshot(start_cluster: StartCluster) -> None:
    cluster = await start_cluster(settings=RaftSettings(compaction_min_entries=50))
    leader = await cluster.leader()
    lagging = next(node for node in cluster.logs if cluster.logs[node] is not leader)
    await cluster.logs[lagging].stop()
    for _ in range(200):
        await cluster.write()
    assert await (await cluster.leader()).trigger_snapshot() > 200
    late = cluster.logs[lagging] = cluster.log_of(lagging)
    await late.start()
    process = late.process_id
    while late.state().index < 200:  # it must fit entries to the snapshot that come with it
        await cluster.write()
    await cluster.agree()
    assert late.process_id == process
    assert late.entries_after(10, 5) is None


async def test_a_new_member_starts_from_the_triggered_snapshot_and_the_log_after_it(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = await start_cluster(voters=1)
    voter = await cluster.leader()
    found = Proposal("f", "node-0", 1.0, (FoundCluster(CLUSTER_ID, cluster.genesis.voters),))
    await voter.propose(found, 5.0)
    now = await voter.snapshot()
    assert await voter.written_snapshot() == now, "while there is none, the state as of now"
    taken = await voter.trigger_snapshot()
    await until(lambda: voter.status().snapshot_index == taken, [voter])
    for _ in range(5):
        await voter.propose(cluster.proposal(), 5.0)
    started_at: list[int] = []

    async def fetch_snapshot() -> bytes:
        encoded = await voter.written_snapshot()
        started_at.append(load_state(encoded).index)
        return encoded

    async def fetch_entries(after: int, _: int) -> list[Entry] | None:
        entries = voter.entries_after(after, 2)
        return None if entries is None else list(entries)

    member = FollowerLog(fetch_snapshot, fetch_entries, tmp_path / "replica")
    await member.start()
    status = voter.status()
    await member.heard(status.commit_index, status.term, status.leader_id)
    await until(lambda: member.state() == voter.state(), [voter, member])
    assert started_at == [taken]
    await member.stop()
    # A damaged file, which a voter would refuse to start from, is given to nobody.
    (cluster.root / "node-0" / "raft" / "snapshot").write_bytes(b"torn")
    assert load_state(await voter.written_snapshot()) == voter.state()


async def test_a_host_that_moved_is_found_again(start_cluster: StartCluster) -> None:
    cluster = await start_cluster()
    leader = await cluster.leader()
    moved = max(node for node in cluster.logs if cluster.logs[node] is not leader)
    await cluster.logs[moved].stop()
    cluster.ports[moved] = free_port()
    cluster.moved[moved] = f"127.0.0.1:{cluster.ports[moved]}"
    cluster.logs[moved] = cluster.log_of(moved)
    await cluster.logs[moved].start()
    await cluster.write()
    await cluster.agree()


async def test_damaged_files_are_refused_by_name(start_cluster: StartCluster) -> None:
    cluster = await start_cluster(voters=1)
    leader = await cluster.leader()
    for _ in range(10):
        await leader.propose(cluster.proposal(), 5.0)
    await leader.trigger_snapshot()
    await leader.stop()
    snapshot = cluster.root / "node-0" / "raft" / "snapshot"
    snapshot.write_bytes(snapshot.read_bytes()[:-1])
    with pytest.raises(LogDamaged, match="snapshot") as caught:
        await cluster.log_of("node-0").start()
    assert caught.value.hint


@pytest.mark.parametrize("name", ["journal", "term", "bound", "snapshot"])
async def test_files_that_are_found_damaged_while_the_agent_runs_are_named(
    start_cluster: StartCluster, name: str
) -> None:
    """The raft process was killed alone: it is started again, and says why it votes no more."""
    cluster = await start_cluster(voters=3)
    await cluster.insist(lambda one: one.propose(cluster.found(), 5.0))
    for _ in range(10):
        await cluster.write()
    await cluster.agree()
    leader = await cluster.leader()
    damaged = next(log for log in cluster.logs.values() if log is not leader)
    await damaged.trigger_snapshot()
    file = cluster.root / cluster.name_of(damaged) / "raft" / name
    await eventually(file.exists)
    file.unlink()
    file.mkdir()
    kill(damaged)
    await until(lambda: damaged.status().is_damaged, [damaged])
    assert f"{file} cannot be read" in damaged.status().down
    await cluster.write()


async def test_a_taken_port_is_told(start_cluster: StartCluster) -> None:
    cluster = await start_cluster(voters=3)
    other = cluster.log_of("node-0")
    other._folder = cluster.root / "elsewhere"
    with pytest.raises(SappersError, match=r"cannot listen.*: Address already in use"):
        await other.start()


async def test_strangers_are_refused(start_cluster: StartCluster, tmp_path: Path) -> None:
    cluster = await start_cluster()
    leader = await cluster.leader()
    address = ("127.0.0.1", cluster.ports["node-2"])
    rogue = make_identity(tmp_path / "rogue", "node-0", create_authority("lab"))
    outsider = make_identity(tmp_path / "outsider", "node-9", cluster.authority)
    elder = load_identity(cluster.root / "node-1" / "pki")

    async def converse(context: ssl.SSLContext | None, *sent: bytes) -> bytes:
        """What node-2 answers before it hangs up."""
        try:
            reader, writer = await asyncio.open_connection(
                *address, ssl=context, server_hostname="node-2" if context else None
            )
            for part in sent:
                writer.write(part)
            async with asyncio.timeout(30):
                return await reader.read()
        except OSError:
            return b""

    vote = frame({"type": "request_vote", "term": 99, "last_log_index": 999, "last_log_term": 99})
    pickle = b"\x80\x04cposix\nsystem\n(S'touch /tmp/owned'\ntR."
    hello = frame(Hello(CLUSTER_ID, "node-0"))
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.load_verify_locations(outsider.ca)
    theirs = client_context(rogue)
    theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
    assert await converse(None, pickle, os.urandom(5000)) == b""
    assert await converse(nobody, hello, vote) == b""
    assert await converse(theirs, hello, vote) == b""
    assert await converse(client_context(outsider), hello, vote) == b""
    greeting = frame(Hello(CLUSTER_ID, "node-9"))
    answer = await converse(client_context(outsider), greeting, vote)
    assert b"vote" not in answer, "a member without a vote is told so at most"
    # A voter's own certificate, but another's name, another cluster, no hello, a giant, a pickle.
    for first in (
        hello,
        frame(Hello("another cluster", "node-1")),
        vote,
        b"\x7f\xff\xff\xff",
        len(pickle).to_bytes(4, "big") + pickle,
    ):
        answer = await converse(client_context(elder), first, vote)
        assert all(b"hello" in body for body in Frames(4096).feed(answer))
    await cluster.agree()
    assert leader.status().term < 99
    assert all(log.status().term < 99 for log in cluster.logs.values())


async def test_a_revoked_voter_is_out_at_once(start_cluster: StartCluster) -> None:
    cluster = await start_cluster()
    leader = await cluster.leader()
    await cluster.insist(lambda one: one.propose(cluster.found(), 5.0))
    node = next(one for one, log in cluster.logs.items() if log is not leader)
    member = msgspec.structs.replace(make_member(node), id=node)
    revoke = Proposal("r", "node-0", 1.0, (RegisterMember(member), RevokeMember(node)))
    since = time.monotonic()
    await cluster.insist(lambda one: one.propose(revoke, 5.0))
    out = cluster.logs[node]
    await until(lambda: out.status().leader_id is None, [out])
    print(f"out after {time.monotonic() - since:.2f} s")
    await cluster.write()
    assert cluster.logs[node].status().leader_id is None
    restarted = await cluster.restart(node)
    with pytest.raises(TimeoutError):
        await until(lambda: restarted.status().leader_id is not None, [restarted], 3.0)


async def test_a_renewed_certificate_is_shown_without_a_restart(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = await start_cluster()
    await cluster.agree()
    process = cluster.logs["node-2"].process_id
    context = client_context(load_identity(cluster.root / "node-1" / "pki"))
    address = ("127.0.0.1", cluster.ports["node-2"])

    async def serial() -> str:
        _, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="node-2")
        shown = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
        writer.close()
        return str(shown)

    before = await serial()
    fresh = make_identity(tmp_path / "fresh", "node-2", cluster.authority)
    for file in (fresh.key, fresh.cert):
        file.replace(cluster.root / "node-2" / "pki" / file.name)
    cluster.renewed += 1
    async with asyncio.timeout(60):
        while await serial() == before:  # noqa: ASYNC110 - the process does not say when
            await asyncio.sleep(0.1)
    assert cluster.logs["node-2"].process_id == process
    await cluster.agree()


async def test_out_of_descriptors_is_survived(start_cluster: StartCluster) -> None:
    cluster = await start_cluster()
    await cluster.agree()
    target = cluster.logs["node-2"].process_id
    assert target is not None
    in_use = len(os.listdir(f"/proc/{target}/fd"))  # noqa: PTH208
    resource.prlimit(target, resource.RLIMIT_NOFILE, (in_use + 3, in_use + 3))
    address = ("127.0.0.1", cluster.ports["node-2"])
    strangers = [await asyncio.open_connection(*address) for _ in range(20)]
    await cluster.write()
    for _, writer in strangers:
        writer.close()
    await cluster.restart("node-0")  # it must get through to node-2
    await cluster.agree()
    assert cluster.logs["node-2"].process_id == target


async def test_strangers_that_say_nothing_block_nobody(start_cluster: StartCluster) -> None:
    cluster = await start_cluster()
    await cluster.agree()
    folder = f"/proc/{cluster.logs['node-2'].process_id}/fd"
    in_use = len(os.listdir(folder))  # noqa: PTH208
    address = ("127.0.0.1", cluster.ports["node-2"])
    strangers = [await asyncio.open_connection(*address) for _ in range(300)]
    await cluster.write()
    assert len(os.listdir(folder)) <= in_use + 64  # noqa: PTH208

    async def go_on_coming() -> None:
        while True:
            strangers.append(await asyncio.open_connection(*address))
            strangers.pop(0)[1].close()

    crowd = asyncio.create_task(go_on_coming())
    await cluster.restart("node-0")
    await cluster.agree()
    crowd.cancel()
    for _, writer in strangers:
        writer.close()


async def test_two_processes_never_share_a_folder(start_cluster: StartCluster) -> None:
    cluster = await start_cluster(voters=1)
    await cluster.leader()
    second = cluster.log_of("node-0")
    with pytest.raises(SappersError, match="another raft process uses"):
        await second.start()


AGENT = """
import asyncio, sys
from pathlib import Path
from test_consensus_processes import Cluster, RaftSettings
async def main():
    cluster = Cluster(Path(sys.argv[1]), 1, RaftSettings())
    await cluster.start()
    print(cluster.logs["node-0"].process_id, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_process_ends_with_its_agent(tmp_path: Path) -> None:
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", AGENT, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    assert agent.stdout is not None
    descriptor = os.pidfd_open(int(await agent.stdout.readline()))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    agent.kill()
    await agent.wait()
    async with asyncio.timeout(60):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)


async def test_writes_a_second(start_cluster: StartCluster) -> None:
    cluster = await start_cluster()
    leader = await cluster.leader()
    for in_flight, count in ((1, 200), (64, 3000)):
        turns = asyncio.Semaphore(in_flight)

        async def write(number: int, turns: asyncio.Semaphore = turns) -> None:
            async with turns:
                proposal = Proposal(f"{turns}-{number}", "node-0", 1.0, (NoOperation(),))
                await leader.propose(proposal, 10.0)

        since = time.monotonic()
        await asyncio.gather(*(write(number) for number in range(count)))
        print(f"{in_flight} in flight: {count / (time.monotonic() - since):.0f} writes/s")
    for log in cluster.logs.values():
        print(f"{cluster.name_of(log)}: {resident_kib(log)} KiB")
    await cluster.agree()
