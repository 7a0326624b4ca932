"""A raft process without a process: the real `Voter` in a life of its own, and its stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sappers.consensus.framing import FrameConnection
from sappers.consensus.layer import RaftNode
from sappers.consensus.log_lines import Threshold
from sappers.consensus.voter import Surroundings, Voter
from sappers.consensus.wire import Start
from sappers.errors import SappersError
from sappers.model.commands import Entry
from tests.simulation.disk import SimulatedDisk
from tests.simulation.links import RaftLinks, RaftMesh
from tests.simulation.loop import Life, VirtualLoop, current_life

SNAPSHOT_SECONDS = 0.3
UNREAD_BYTES = 8 * 1024  # in the stream, and of entries beside it: then the other end hangs
CLAIM_ATTEMPTS, CLAIM_SECONDS = 30, 0.1


class _Stream(asyncio.Transport):
    """One end of a socket pair."""

    def __init__(self, loop: VirtualLoop, life: Life, protocol: FrameConnection) -> None:
        super().__init__()
        self._loop = loop
        self._life = life
        self._protocol = protocol
        self._is_closing = False
        self._unread = 0
        self.other: _Stream

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass  # they are the simulation's own

    def get_write_buffer_size(self) -> int:
        return self._unread

    def write(self, data: Any) -> None:
        self._unread += len(data)
        self._loop.call_soon(self._arrive, bytes(data), context=self.other._life.context)
        if self._unread > UNREAD_BYTES and not self._protocol.is_held:
            self._protocol.pause_writing()

    def _arrive(self, data: bytes) -> None:
        self.other._protocol.data_received(data)
        self._unread -= len(data)
        if self._protocol.is_held and not self._unread:
            self._loop.call_soon(self._resume, context=self._life.context)

    def _resume(self) -> None:
        if self._protocol.is_held:
            self._protocol.resume_writing()

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        for end in (self, self.other):
            if not end._is_closing:
                end._is_closing = True
                self._loop.call_soon(end._protocol.connection_lost, None, context=end._life.context)


class _Writing:
    """A snapshot that is being written."""

    def __init__(self, loop: VirtualLoop, work: Callable[[], None], seconds: float) -> None:
        self._is_alive = True
        loop.call_later(seconds, self._do, work)

    def _do(self, work: Callable[[], None]) -> None:
        work()
        self._is_alive = False

    def is_alive(self) -> bool:
        return self._is_alive


class WatchedVoter(Voter):
    """Tells the simulation what it applies and when it leads."""

    def __init__(self, watch: Any, *args: Any) -> None:
        super().__init__(*args)
        self._watch = watch

    async def _open(self, start: Start) -> None:
        await super()._open(start)
        if (node := self._node) is None:
            return
        self._watch.votes(start.me_id)
        begin = node._begin_recovery

        def begin_recovery() -> None:
            before = node._recovery
            begin()
            if before is None and node._recovery is not None:
                self._watch.recovers(start.me_id, node._journal)

        node._begin_recovery = begin_recovery
        take = node._hand_to_library

        def hand_to_library(sender: Any, message: dict[str, Any]) -> None:
            if sender.id in node.state.revoked:
                self._watch.broke(f"{start.me_id} takes {message['type']} of {sender.id}, revoked")
            take(sender, message)

        node._hand_to_library = hand_to_library

    def on_applied(self, entry: Entry) -> None:
        super().on_applied(entry)
        self._watch.applied(self._node.selfNode.id, entry, self._node.state)

    def on_snapshot(self, snapshot: Any) -> None:
        super().on_snapshot(snapshot)
        self._watch.installed(self._node.selfNode.id, self._node.state)

    def _tell_status(self) -> None:
        super()._tell_status()
        if self._node is not None and self._node._isLeader():
            self._watch.leads(self._node.selfNode.id, self._node.raftCurrentTerm)


class RaftProcess:
    """Satisfies `raft_log.Process`."""

    pid = 1

    def __init__(
        self,
        loop: VirtualLoop,
        mesh: RaftMesh,
        disk: SimulatedDisk,
        watch: Any,
        agent_end: FrameConnection,
        others: list[RaftProcess],
    ) -> None:
        agent = current_life()
        assert agent is not None
        self._ended: asyncio.Future[int] = loop.create_future()
        self.life = Life(f"{agent.name}/raft", agent.monotonic)
        self.life.at_end(lambda: loop.call_soon(self._note_end, context=agent.context))
        surroundings = Surroundings(
            disk=disk,
            open_links=partial(RaftLinks, mesh),
            claim=partial(_claim, tuple(others)),
            in_background=lambda work: _Writing(
                loop, work, disk.chance.random() * SNAPSHOT_SECONDS
            ),
            unread_bytes=UNREAD_BYTES,
        )
        self._voter = self.life.context.run(WatchedVoter, watch, {}, Threshold(), surroundings)
        ours, theirs = _Stream(loop, agent, agent_end), _Stream(loop, self.life, self._voter.agent)
        ours.other, theirs.other = theirs, ours
        self._theirs = theirs
        agent_end.connection_made(ours)
        self._voter.agent.connection_made(theirs)
        agent.at_end(theirs.close)
        loop.create_task(self._live(), context=self.life.context)

    async def _live(self) -> None:
        code = await self._voter.ended
        if code == 0:
            with contextlib.suppress(OSError):  # the disk failed at the very end
                self._voter.close()
        self._voter.agent.close()
        asyncio.get_running_loop().call_soon(self.life.end)

    def _note_end(self) -> None:
        self._theirs.close()
        if not self._ended.done():
            self._ended.set_result(0)

    @property
    def node(self) -> RaftNode | None:
        """Its part in Raft, while it has one."""
        return None if self.life.is_over else self._voter._node

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        self.life.end()


async def _claim(others: tuple[RaftProcess, ...], path: Any) -> int:
    """As the real one: one that stands still while its agent was killed has the folder yet."""
    for _ in range(CLAIM_ATTEMPTS):
        if all(one.life.is_over for one in others):
            return -1
        await asyncio.sleep(CLAIM_SECONDS)
    raise SappersError(f"another raft process uses {path}")


def process_starter(
    loop: VirtualLoop, mesh: RaftMesh, disk: SimulatedDisk, watch: Any, started: list[RaftProcess]
) -> Callable[[FrameConnection], Awaitable[RaftProcess]]:
    """What a host's `RaftLog` starts raft processes with."""

    async def start(agent_end: FrameConnection) -> RaftProcess:
        process = RaftProcess(loop, mesh, disk, watch, agent_end, started)
        started.append(process)
        return process

    return start
