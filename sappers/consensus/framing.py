"""Messages in a stream of bytes: msgpack in length-capped frames."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

_LENGTH = struct.Struct(">I")
_READ_BYTES = 256 * 1024
_UNREAD_BYTES = 2**20  # that wait beyond the kernel's own room: then the other end does not read
_encode = msgspec.msgpack.Encoder().encode


class FrameTooLong(ValueError):
    """The other side announced more than it may send."""


def frame(message: msgspec.Struct | dict[str, Any]) -> bytes:
    """A message as it goes on the wire; a dict has its kind in `type`, as pysyncobj's have."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a stream into frames. No I/O."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """The frames that are complete now; the limit may be changed between two of them.

        Raises:
            FrameTooLong: A frame exceeds the limit.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > self.limit_bytes:
                raise FrameTooLong(f"a frame of {length} bytes, at most {self.limit_bytes} allowed")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield body


class FrameConnection(asyncio.BufferedProtocol):
    """One end of the stream between agent and raft process.

    It reads into a buffer of its own: asyncio would ask the kernel for fresh memory at each read.

    Args:
        limit_bytes: Of a frame.
        received: Takes each frame.
        taken: Called when all frames of what was read at once are taken.
        lost: Called when the other end is gone.
        hold: Called when that does not read what it was sent.
        release: Called when it reads again.

    Attributes:
        is_held: Between the two.
    """

    def __init__(
        self,
        limit_bytes: int,
        received: Callable[[bytes], None],
        lost: Callable[[], None],
        hold: Callable[[], None] = lambda: None,
        release: Callable[[], None] = lambda: None,
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        self._frames = Frames(limit_bytes)
        self._received = received
        self._taken = taken
        self._lost = lost
        self._hold = hold
        self._release = release
        self.is_held = False
        self._transport: asyncio.WriteTransport | None = None
        self._room = memoryview(bytearray(_READ_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.set_write_buffer_limits(high=_UNREAD_BYTES)
        self._transport = transport

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self.is_held = True
        self._hold()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self.is_held = False
        self._release()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """See asyncio.BufferedProtocol."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self.data_received(self._room[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Take what came in, frames and parts of frames."""
        for body in self._frames.feed(data):
            self._received(body)
        self._taken()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See asyncio.Protocol."""
        self._transport = None
        self._lost()

    def send(self, *messages: msgspec.Struct) -> bool:
        """Send messages together, as each write wakes the other end; False when that is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(b"".join(map(frame, messages)))
        return True

    @property
    def unread_bytes(self) -> int:
        """What was sent and is not in the kernel's hands yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._transport is not None:
            self._transport.close()
