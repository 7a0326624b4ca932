"""The agent's end of a raft process, without a process."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import msgspec
import pytest

from sappers.config import RaftSettings
from sappers.consensus import raft_process
from sappers.consensus.framing import FrameConnection
from sappers.consensus.raft_process import Process, RaftProcess
from sappers.consensus.wire import (
    Credentials,
    Failed,
    SetLogLevel,
    Standing,
    Start,
    Stop,
    decode_agent_message,
)
from sappers.errors import LogDamaged
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.view import Genesis
from tests.waiting import eventually

GENESIS = Genesis("c", "a", ("a",), {})
START = Start(
    "a", GENESIS, "/raft", Credentials("", "", "", "a", "agent", "c"), RaftSettings(),
    ("127.0.0.1", 1), {}, "INFO",
)  # fmt: skip
STANDING = Standing(RaftStatus(RaftRole.FOLLOWER, 1, None, 1, 1, ("a",)))


class Far:
    """The other end: says one thing first, and ends when it is told to or killed."""

    pid = 1

    def __init__(self, first: msgspec.Struct) -> None:
        self.first = first
        self.heard: list[list[msgspec.Struct]] = []
        self.ended = asyncio.Event()
        self.end = FrameConnection(100_000, self._take, self.ended.set)

    async def start(self, agent_end: FrameConnection) -> Process:
        mine, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: agent_end, sock=mine)
        take = self.end.data_received

        def data_received(data: bytes) -> None:
            self.heard.append([])
            take(data)

        self.end.data_received = data_received  # type: ignore[method-assign]
        self.transport, _ = await loop.create_unix_connection(lambda: self.end, sock=theirs)
        self.end.send(self.first)
        if isinstance(self.first, Failed):
            self.end.close()
        return self

    def _take(self, body: bytes) -> None:
        message = decode_agent_message(body)
        self.heard[-1].append(message)
        if isinstance(message, Stop):
            self.end.close()

    async def wait(self) -> int:
        await self.ended.wait()
        return 0

    def kill(self) -> None:
        self.end.close()


async def test_what_is_asked_in_one_turn_travels_together() -> None:
    far = Far(STANDING)
    process = RaftProcess(far.start, lambda: START, lambda _: None, lambda: None)
    assert not process.send(SetLogLevel("too early"))
    await process.start()
    for level in "123":
        assert process.send(SetLogLevel(level))
    await process.stop()
    assert far.heard == [[START], [*(SetLogLevel(level) for level in "123"), Stop()]]


async def test_of_many_the_first_are_on_their_way_before_the_turn_is_over() -> None:
    far = Far(STANDING)
    process = RaftProcess(far.start, lambda: START, lambda _: None, lambda: None)
    await process.start()
    stream = process._stream
    assert stream is not None
    sent: list[int] = []
    stream.send = lambda *messages: sent.append(len(messages)) or True  # type: ignore[method-assign,func-returns-value]
    for level in range(50):
        process.send(SetLogLevel(str(level)))
    assert sent == [32]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sent == [32, 18]
    del stream.send
    await process.stop()


async def test_one_that_hangs_is_asked_no_more_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_process, "_UNREAD_BYTES", 10_000)
    far = Far(STANDING)
    process = RaftProcess(far.start, lambda: START, lambda _: None, lambda: None)
    await process.start()
    assert isinstance(far.transport, asyncio.ReadTransport)
    far.transport.pause_reading()
    asked = 0
    while process.send(SetLogLevel("x" * 2**14)):
        await asyncio.sleep(0)
        asked += 1
        assert asked < 1000
    far.transport.resume_reading()
    while not process.send(Stop()):  # noqa: ASYNC110
        await asyncio.sleep(0)
    await process.stop()
    assert sum(len(some) for some in far.heard) >= asked


async def test_why_it_does_not_start_is_told() -> None:
    far = Far(Failed("journal: bad", damaged=True, hint="reseed"))
    process = RaftProcess(far.start, lambda: START, lambda _: None, lambda: None)
    with pytest.raises(LogDamaged, match="journal: bad"):
        await process.start()
    assert process.process is None


async def test_it_is_started_again_though_for_a_while_no_process_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raft_process, "_RESTART_SECONDS", (0.0,))
    first, second = Far(STANDING), Far(STANDING)
    lacking = [OSError(one, os.strerror(one)) for one in (errno.EMFILE, errno.EAGAIN)]
    attempts = iter([first, *lacking, second])

    async def start(agent_end: FrameConnection) -> Process:
        match next(attempts):
            case Far() as far:
                return await far.start(agent_end)
            case error:
                raise error

    why: list[str] = []
    process = RaftProcess(
        start, lambda: START, lambda _: None, lambda: why.append(process.failure.message)
    )
    await process.start()
    first.kill()
    await eventually(lambda: process.process is second and process.send(SetLogLevel("INFO")), 10)
    await process.stop()
    assert "Too many open files" in why[1]
    assert "temporarily unavailable" in why[2]
