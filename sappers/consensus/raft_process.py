"""The raft process of a voter, from outside: started, watched, and started again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog

from sappers.consensus.framing import FrameConnection
from sappers.consensus.wire import (
    Ended,
    Failed,
    ProcessMessage,
    Standing,
    Start,
    Stop,
    decode_process_message,
)
from sappers.errors import LogDamaged, SappersError

_FRAME_LIMIT_BYTES = 2**30
_RESTART_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_STOP_SECONDS = 5.0
_UNREAD_BYTES = 64 * 2**20  # that wait for a process that hangs; then it is asked nothing more
_TOGETHER = 32  # so many messages go before the turn is over: the voter works beside the agent
_STEADY_SECONDS = 10.0  # a process that lived so long starts at the first delay again

_log = structlog.get_logger()


class Process(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int:
        """Its number."""

    async def wait(self) -> int:
        """Its exit code, once it has ended."""

    def kill(self) -> None:
        """End it at once."""


StartProcess = Callable[[FrameConnection], Awaitable[Process]]


async def start_raft_process(agent_end: FrameConnection) -> Process:
    """Start a raft process and connect the agent's end of the stream with it."""
    mine, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "sappers.consensus.process", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the agent, which stops it in order
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    await asyncio.get_running_loop().create_unix_connection(lambda: agent_end, sock=mine)
    return process


class RaftProcess:
    """Keeps one raft process running, until its voter is removed.

    Args:
        start_process: Starts one.
        first_words: What each that is started is told first.
        hear: Takes what it says.
        lost: Called when it is gone, and with it what it was asked.

    Attributes:
        is_retired: Its voter was removed: it is not started again.
        process: None while there is none.
    """

    def __init__(
        self,
        start_process: StartProcess,
        first_words: Callable[[], Start],
        hear: Callable[[ProcessMessage], None],
        lost: Callable[[], None],
    ) -> None:
        self._start_process = start_process
        self._first_words = first_words
        self._hear = hear
        self._tell_lost = lost
        self.is_retired = False
        self.process: Process | None = None
        self._stream: FrameConnection | None = None
        self._unsent: list[msgspec.Struct] = []
        self._is_ready: asyncio.Future[None] | None = None
        self._said: Failed | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def failure(self) -> Failed:
        """Why the last one ended."""
        return self._said or Failed("the raft process ended", damaged=False, hint=None)

    async def start(self) -> None:
        """Start it; returns once it has said how it stands.

        Raises:
            LogDamaged: A file cannot be trusted; says which and what to do.
            SappersError: It cannot start: port taken, certificate wrong, …
        """
        try:
            await self._spawn()
        except SappersError:
            await self._reap()
            raise
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Stop it; its files are synced when this returns."""
        if self._watching is not None:
            self._watching.cancel()
        await self._reap()

    def send(self, message: msgspec.Struct, *, at_once: bool = False) -> bool:
        """Tell it something, together with all that it is told in this turn of the event loop.

        Args:
            at_once: Nothing else will come in this turn.

        Returns:
            False while there is none, or it does not read what it was told before.
        """
        if self._stream is None or self._stream.unread_bytes > _UNREAD_BYTES:
            return False
        if not self._unsent and not at_once:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(message)
        if at_once or len(self._unsent) >= _TOGETHER:
            self._flush()
        return True

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self._stream is not None:
            self._stream.send(*unsent)

    def kill(self) -> None:
        """End it at once; another one is started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def _receive(self, body: bytes) -> None:
        message = decode_process_message(body)
        match message:
            case Standing() if self._is_ready is not None and not self._is_ready.done():
                self._hear(message)
                self._is_ready.set_result(None)
                return
            case Ended(index=index):
                _log.info("this voter was removed", index=index)
                self.is_retired = True
            case Failed():
                self._said = message
        self._hear(message)

    def _lost(self) -> None:
        self._stream = None
        if self._is_ready is not None and not self._is_ready.done():
            error = LogDamaged if self.failure.damaged else SappersError
            self._is_ready.set_exception(error(self.failure.message, hint=self.failure.hint))
        self._tell_lost()

    async def _spawn(self) -> None:
        self._said = None
        self._is_ready = asyncio.get_running_loop().create_future()
        stream = FrameConnection(_FRAME_LIMIT_BYTES, self._receive, self._lost)
        try:
            self.process = await self._start_process(stream)
        except (OSError, RuntimeError) as error:  # no descriptor, memory or thread to be had
            self._said = Failed(f"it cannot be started: {error}", damaged=False, hint=None)
            self._tell_lost()
            raise SappersError(f"the raft process cannot be started: {error}") from error
        self._stream = stream
        stream.send(self._first_words())
        await self._is_ready

    async def _watch(self) -> None:
        """Start the process again whenever it ends, unless this voter was removed."""
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            assert self.process is not None
            since = loop.time()
            code = await self.process.wait()
            if self.is_retired:
                return
            deaths = 1 if loop.time() - since > _STEADY_SECONDS else deaths + 1
            delay = _RESTART_SECONDS[min(deaths, len(_RESTART_SECONDS)) - 1]
            why = self._said.message if self._said else ""
            _log.error("the raft process ended", exit_code=code, reason=why, again_in=delay)
            await asyncio.sleep(delay)
            with contextlib.suppress(SappersError):
                await self._spawn()

    async def _reap(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        self.send(Stop())
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._stream is not None:
            self._stream.close()
