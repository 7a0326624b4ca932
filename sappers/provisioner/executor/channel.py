"""Requests to the executor on a host and its answers, over one SSH channel.

A thread of its own reads what comes and pings, so that a connection that died is noticed within
`SILENCE_MAX_SECONDS` even while a long command runs.

The host is not trusted: what it sends is bounded, and checked before anyone takes it for an answer.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
import paramiko

from sappers.errors import HostUnreachable
from sappers.model.known_types import learn
from sappers.provisioner.remote import wire

PING_SECONDS = 5.0
SILENCE_MAX_SECONDS = 20.0
CLOSE_SECONDS = 2.0
READ_BYTES = 256 * 1024
PACKET_BYTES = 32 * 1024
FRAMES_WAITING_MAX = 16

Event = Callable[[dict[str, Any], bytes], None]


class ExecutorChannel:
    """One call at a time; a call from another thread waits for its turn."""

    def __init__(self, host: str, channel: paramiko.Channel, rest: bytes) -> None:
        self.host = host
        self._channel = channel
        self._buffer = bytearray(rest)
        self._calling = threading.RLock()
        self._sending = threading.Lock()
        self._answers: queue.Queue[wire.Frame | None] = queue.Queue(FRAMES_WAITING_MAX)
        self._number = 0
        self._heard_at = time.monotonic()
        self._pinged_at = self._heard_at
        self._ended = ""
        channel.settimeout(PING_SECONDS)
        self._reader = threading.Thread(target=self._receive, daemon=True)
        self._reader.start()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Several requests with no other call in between."""
        with self._calling:
            yield

    def call(
        self, request: dict[str, Any], body: bytes = b"", event: Event | None = None
    ) -> wire.Frame:
        """Send a request and wait for the answer; what comes before it goes to `event`.

        Returns:
            The answer's head (with `result` or `error`) and its raw bytes.

        Raises:
            HostUnreachable: The connection is gone.
        """
        with self._calling:
            number = self.begin(request, body)
            while True:
                head, raw = self.receive(number)
                if "event" not in head:
                    return head, raw
                if event:
                    event(head, raw)

    def begin(self, request: dict[str, Any], body: bytes = b"") -> int:
        """Send a request; its number. Only within `exclusive`."""
        self._number += 1
        self.send({**request, "id": self._number}, body)
        return self._number

    def receive(self, number: int) -> wire.Frame:
        """The next frame that belongs to a request. Only within `exclusive`.

        Raises:
            HostUnreachable: The connection is gone.
        """
        while True:
            try:
                frame = self._answers.get(timeout=PING_SECONDS)
            except queue.Empty:
                self._check_silence()
                if self._ended:
                    raise self._gone() from None
                continue
            if frame is None:
                self._say_that_it_ended()  # to whoever calls next
                raise self._gone()
            if frame[0]["id"] == number:  # others belong to a call that an error cut short
                return frame

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send one frame.

        Raises:
            HostUnreachable: The connection is gone.
        """
        with self._sending:
            left = memoryview(wire.encode(head, body))
            while left:
                if self._ended:
                    raise self._gone()
                try:
                    left = left[self._channel.send(bytes(left[:PACKET_BYTES])) :]
                except TimeoutError:
                    self._check_silence()
                except (OSError, EOFError, paramiko.SSHException) as error:
                    self._end(str(error))

    def close(self) -> None:
        """End the executor: its stdin ends. Returns when it has ended, or soon."""
        self._ended = self._ended or "it was closed"
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()
        if self._reader is not threading.current_thread():
            self._reader.join(CLOSE_SECONDS)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()

    def _receive(self) -> None:
        try:
            while (frame := wire.decode(self._read_exactly)) is not None:
                # Nobody waits for what belongs to no call, or to one that an error cut short.
                if frame[0].get("id") == self._number and self._number:
                    self._hand_over((_checked(frame[0]), frame[1]))
            self._end("it ended")
        except (OSError, EOFError, ValueError, paramiko.SSHException) as error:
            self._end(str(error))
        self._say_that_it_ended()

    def _hand_over(self, frame: wire.Frame) -> None:
        """Wait until there is room: a host that sends more than is taken must wait, too."""
        while not self._ended:
            with contextlib.suppress(queue.Full):
                self._answers.put(frame, timeout=0.5)
                return

    def _say_that_it_ended(self) -> None:
        with contextlib.suppress(queue.Full):  # then whoever calls next sees `_ended` soon
            self._answers.put_nowait(None)

    def _read_exactly(self, length: int) -> bytes | None:
        while len(self._buffer) < length:
            self._ping()
            try:
                part = self._channel.recv(READ_BYTES)
            except TimeoutError:
                if time.monotonic() - self._heard_at > SILENCE_MAX_SECONDS:
                    raise OSError(f"nothing heard for {SILENCE_MAX_SECONDS:.0f} s") from None
                continue
            if not part:
                return None
            self._heard_at = time.monotonic()
            self._buffer += part
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _ping(self) -> None:
        """Ask for a sign of life, unless something was asked lately or a call sends just now."""
        now = time.monotonic()
        if now - self._pinged_at < PING_SECONDS or not self._sending.acquire(blocking=False):
            return
        try:
            self._pinged_at = now
            # A small frame: it fits into the window, or the sender above is at work anyway.
            frame = wire.encode({"op": "ping", "id": 0})
            if self._channel.send_ready():
                self._channel.sendall(frame)
        finally:
            self._sending.release()

    def _check_silence(self) -> None:
        if time.monotonic() - self._heard_at > SILENCE_MAX_SECONDS:
            self._end(f"nothing heard for {SILENCE_MAX_SECONDS:.0f} s")

    def _end(self, reason: str) -> None:
        self._ended = self._ended or reason or "the connection ended"
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()

    def _gone(self) -> HostUnreachable:
        return HostUnreachable(
            self.host,
            f"the executor is gone: {self._ended}",
            hint="is the host up? Run the same command again; what is done stays done",
        )


class _Fault(msgspec.Struct):
    kind: str
    message: str
    errno: int = 0


class _Head(msgspec.Struct):
    """What every head of an answer has to be; `result` is checked by who asked."""

    event: Literal["stdout", "stderr", "send", "written", "task", "said"] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    error: _Fault | msgspec.UnsetType = msgspec.UNSET
    result: Any = msgspec.UNSET
    number: int = 0


def _checked(head: dict[str, Any]) -> dict[str, Any]:
    """The head; raises ValueError when it is no answer."""
    found = msgspec.convert(head, learn(_Head))
    if [found.event, found.error, found.result].count(msgspec.UNSET) != 2:
        raise ValueError("an answer that makes no sense")
    return head
