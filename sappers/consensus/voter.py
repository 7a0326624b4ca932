"""One voter: connects Raft, the links to other voters, the agent's stream and the clock.

Single-threaded: one event loop drives it all. When the agent's end closes, it ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from sappers.consensus.collector import spare_large_states
from sappers.consensus.disk import LOCAL_DISK, Disk
from sappers.consensus.framing import FrameConnection
from sappers.consensus.journal import Journal
from sappers.consensus.layer import RaftNode
from sappers.consensus.library import check_library
from sappers.consensus.log_lines import Threshold, log_lines
from sappers.consensus.outbox import Outbox, Reply
from sappers.consensus.snapshot import (
    SNAPSHOT_FILE,
    InBackground,
    Snapshot,
    SnapshotStore,
    in_thread,
)
from sappers.consensus.transport import PeerTransport
from sappers.consensus.turns import Turns
from sappers.consensus.wire import (
    AgentLives,
    ChangeElectorate,
    Ended,
    Failed,
    LoadState,
    Propose,
    Recover,
    Rejected,
    RenewCertificate,
    SetAddresses,
    SetLogLevel,
    Standing,
    Start,
    StateAge,
    Stop,
    TakeSnapshot,
    TransferLeadership,
    decode_agent_message,
)
from sappers.consensus.yielding import AgentSilence
from sappers.durable import FULL
from sappers.errors import LogDamaged, SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry
from sappers.model.observation import RaftRole, RaftStatus
from sappers.security.tls import renew_contexts

AGENT_FRAME_LIMIT_BYTES = 2**30  # from our own agent: a bound against bugs, not against enemies
_LOCK_ATTEMPTS, _LOCK_SECONDS = 30, 0.1
_AGE_SECONDS = 0.5
_COMMIT_INDEX_SECONDS = 0.1  # between messages that tell of a new commit index alone

_log = structlog.get_logger()


_Request = Propose | ChangeElectorate | TransferLeadership | Recover | TakeSnapshot


async def claim(path: Path) -> int:
    """Keep every other raft process out of the folder, until this one ends.

    Raises:
        SappersError: Another one is in it, and does not end either.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # the one of an agent that was just killed ends by itself
            await asyncio.sleep(_LOCK_SECONDS)
        else:
            return descriptor
    raise SappersError(
        f"another raft process uses {path.parent}",
        hint="two agents share one state folder: stop one",
    )


class Surroundings(msgspec.Struct, frozen=True):
    """What a voter stands on; a simulation has its own.

    Attributes:
        open_links: Makes the links to the other voters, of `PeerTransport`'s arguments.
        claim: Keeps others out of the folder of this lock file; a descriptor.
        unread_bytes: Of entries that may wait for an agent that does not read.
    """

    disk: Disk = LOCAL_DISK
    open_links: Callable[..., Any] = PeerTransport
    claim: Callable[[Path], Awaitable[int]] = claim
    in_background: InBackground = in_thread
    unread_bytes: int = 16 * 2**20


class Voter:
    """Connects the agent's stream, the voter and the clock."""

    def __init__(
        self,
        facts: dict[str, Any],
        threshold: Threshold,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._surroundings = around = surroundings or Surroundings()
        self._facts = facts  # stand in each line of the log
        self._threshold = threshold
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.agent = FrameConnection(
            AGENT_FRAME_LIMIT_BYTES,
            self._receive,
            self._agent_is_gone,
            hold=lambda: self._outbox.hold(),
            release=self._agent_reads,
            taken=self._tick_if_asked,
        )
        self._loop = asyncio.get_running_loop()
        self._silence = AgentSilence()
        self._node: RaftNode | None = None
        self._transport: PeerTransport | None = None
        self._removed_at: int | None = None
        self._addresses: dict[str, str] = {}
        self._outbox = Outbox(
            self.agent.send, self._state, around.in_background, around.unread_bytes
        )
        self._standing: tuple[Any, ...] = ()
        self._told: RaftStatus | None = None
        self._told_at = 0.0
        self._age_told_at = 0.0
        self._is_asked = False
        self._turns = Turns(self._tick)
        self._lock = -1
        self._opening: asyncio.Task[None] | None = None

    # From the agent

    def _receive(self, body: bytes) -> None:
        message = decode_agent_message(body)
        self._silence.end()
        match message:
            case AgentLives():
                pass
            case Start():
                self._threshold.set(message.log_level)
                self._opening = self._loop.create_task(self._open(message))
            case Stop():
                self.end(0)
            case SetAddresses(addresses=addresses, others=others):
                self._addresses.update(addresses | others)
                if self._transport is not None:
                    leader = self._node.standing()[2] if self._node is not None else None
                    self._transport.introduce({*others} | ({leader} if leader else set()))
            case SetLogLevel(level=level):
                self._threshold.set(level)
            case RenewCertificate():
                renew_contexts()
            case _ if self._node is None:
                self.agent.send(Rejected(message.request, "the raft process is starting"))
            case _:
                self._ask(self._node, message)
                self._is_asked = True

    def _ask(self, node: RaftNode, message: _Request) -> None:
        reply = Reply(message.request, self._outbox)
        match message:
            case Propose(payload=payload):
                node.propose(payload, reply)
            case ChangeElectorate(payload=payload):
                node.change_electorate(payload, reply)
            case TransferLeadership(member_id=target, timeout_seconds=seconds):
                node.transfer(target, seconds, reply)
            case Recover(payload=payload, listen_seconds=seconds):
                node.recover(payload, reply, seconds)
            case TakeSnapshot():
                node.take_snapshot(reply.of_snapshot)

    def _agent_is_gone(self) -> None:
        self.end(0)

    async def _open(self, start: Start) -> None:
        try:
            check_library()
            self._facts["member"] = start.me_id
            self._addresses.update(start.addresses)
            folder, around = Path(start.folder), self._surroundings
            around.disk.make_folder(folder)
            self._lock = await around.claim(folder / "lock")
            transport = around.open_links(
                start.me_id,
                start.genesis.cluster_id,
                self._addresses,
                start.credentials.identity(),
                start.settings,
                self._heard,
                self._fail,
            )
            self._transport = transport
            snapshots = SnapshotStore(
                folder / SNAPSHOT_FILE, disk=around.disk, in_background=around.in_background
            )
            self.agent.send(LoadState(snapshots.loaded.state if snapshots.loaded else None))
            self._node = RaftNode(
                start.me_id,
                start.genesis,
                Journal(folder, around.disk, first_term=start.genesis.term),
                snapshots,
                transport,
                start.settings,
                self,
            )
            self._node.agent_silence = self._silence.seconds
            await transport.start(start.listen)
        except Exception as error:
            self._fail(error)
        else:
            self._facts["term"] = self._node.status().term
            self._facts["index"] = self._node.raftLastApplied
            _log.info("started")
            self._turns.take()

    # To the agent

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """See layer.Listener."""
        self._facts["index"] = snapshot.index
        self._outbox.replace_entries(snapshot.state)

    def _agent_reads(self) -> None:
        if self._node is not None:  # else it has said its last
            self._outbox.release()

    def _state(self) -> ClusterState:
        assert self._node is not None
        return self._node.state

    def on_applied(self, entry: Entry) -> None:
        """See layer.Listener."""
        self._outbox.add_entry(entry)
        self._facts["index"] = entry.index

    def on_removed(self, index: int) -> None:
        """See layer.Listener."""
        self._removed_at = index
        self._turns.take_soon()

    def _tell(self) -> None:
        self._tell_status()
        self._tell_age()
        leads = self._standing[0] is RaftRole.LEADER
        self._outbox.send_due(entries_awaited=leads or self._removed_at is not None)

    def _tell_age(self) -> None:
        assert self._node is not None
        now = self._loop.time()
        if now - self._age_told_at >= _AGE_SECONDS:
            self._age_told_at = now
            if (age := self._node.state_age()) is not None:
                self._outbox.add(StateAge(time.monotonic() - age))

    def _tell_status(self) -> None:
        assert self._node is not None
        standing, now = self._node.standing(), self._loop.time()
        if is_news := standing != self._standing:
            self._standing = standing
            role, self._facts["term"], leader, _ = standing
            _log.info("standing", role=role, leader=leader)
        elif now - self._told_at < _COMMIT_INDEX_SECONDS:
            return
        status = self._node.status()
        if is_news or status != self._told:
            self._told, self._told_at = status, now
            self._outbox.add(Standing(status))

    # The clock

    def _heard(self) -> None:
        """What another voter sent together was taken."""
        if self._node is not None and self._node.has_work:
            self._tick_now_or_soon()

    def _tick_if_asked(self) -> None:
        """What the agent sent together was taken."""
        if self._is_asked:
            self._is_asked = False
            self._tick_now_or_soon()

    def _tick_now_or_soon(self) -> None:
        """A turn of the event loop takes time, too: only where more may come with it."""
        if self._node is not None and self._node.awaits_more:
            self._turns.take_soon()
        else:
            self._turns.take()

    def _tick(self) -> None:
        if self._node is None or self.ended.done():
            return
        try:
            again = self._node.tick(self._tell)
        except Exception as error:
            self._fail(error)
            return
        if self._removed_at is not None:
            self._outbox.send_last()
            self.agent.send(Ended(self._removed_at))
            self.end(0)
            return
        self._turns.take_after(self._node.seconds_until_due())
        if again:
            self._turns.take_soon()

    # The end

    def _fail(self, error: Exception) -> None:
        hint = error.hint if isinstance(error, SappersError) else None
        if isinstance(error, OSError) and error.errno in FULL:
            hint = "make room on the disk of the raft folder; it goes on by itself then"
        _log.error("raft process ends", error=str(error) or repr(error), hint=hint)
        damaged = isinstance(error, LogDamaged)
        self.agent.send(Failed(str(error) or repr(error), damaged, hint))
        self.end(1)

    def end(self, code: int) -> None:
        """End soon, in order, with this exit code."""
        if not self.ended.done():
            self.ended.set_result(code)

    def close(self) -> None:
        """Make everything durable and close; for an end in order, not after a failure."""
        self._outbox.send_all()
        self._turns.end()
        if self._node is not None:
            node, self._node = self._node, None
            node.destroy()


async def _run(descriptor: int, facts: dict[str, Any], threshold: Threshold) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_exception)
    voter = Voter(facts, threshold)
    await loop.create_unix_connection(lambda: voter.agent, sock=socket.socket(fileno=descriptor))
    loop.add_signal_handler(signal.SIGTERM, voter.end, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the agent decides, in order
    code = await voter.ended
    if code == 0:
        voter.close()
    voter.agent.close()
    return code


def _log_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
    _log.warning(context["message"], error=repr(context.get("exception")))


def run_voter(descriptor: int) -> int:
    """Run one voter until the agent says stop or is gone; the exit code.

    Args:
        descriptor: This process's end of the socket pair with the agent.
    """
    facts: dict[str, Any] = {"member": "", "term": 0, "index": 0}
    threshold = Threshold()
    log_lines(facts, threshold)
    spare_large_states(seldom=5_000)  # few cycles are made here
    return asyncio.run(_run(descriptor, facts, threshold))
