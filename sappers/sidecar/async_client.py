"""The asyncio client of the sidecar's socket; standard library only."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from typing import Any, Self

from sappers.sidecar import frames
from sappers.sidecar.frames import SPARE_SECONDS
from sappers.sidecar.message import (
    QUEUED_MAX,
    SOCKET_PATH,
    SOCKET_VARIABLE,
    DurableMessage,
    Message,
    MessagingError,
    Stored,
)

_LINE_BYTES_MAX = 2 * 1024 * 1024  # eight durable messages


async def connect_async(path: str = "") -> AsyncSidecar:
    """A connection to the sidecar of this guest; as `connect`.

    Raises:
        OSError: There is none: this is no guest.
        MessagingError: It takes no more connections.
    """
    path = path or os.environ.get(SOCKET_VARIABLE) or SOCKET_PATH
    reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_BYTES_MAX)
    try:
        hello = frames.answered(frames.decode(await reader.readline()))
    except BaseException:
        writer.close()
        raise
    return AsyncSidecar(reader, writer, str(hello["allocation"]), str(hello["workload"]))


class AsyncSubscription:
    """Messages of one subject, `async for` or `next`; the oldest go when nobody takes them."""

    def __init__(self, sidecar: AsyncSidecar, number: int) -> None:
        self._sidecar = sidecar
        self._number = number
        self._waiting: asyncio.Queue[Message | None] = asyncio.Queue(QUEUED_MAX)
        self._closed = False

    async def next(self, timeout_seconds: float | None = None) -> Message:
        """The next one.

        Raises:
            TimeoutError: None came.
            MessagingError: The sidecar is gone, or the subscription is closed.
        """
        async with asyncio.timeout(timeout_seconds):
            message = await self._waiting.get()
        if message is None:
            self._put(None)
            raise MessagingError("closed" if self._closed else "the sidecar is gone")
        return message

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Messages until it is closed; raises as `next` when the sidecar goes."""
        while True:
            try:
                message = await self.next()
            except MessagingError:
                if self._closed:
                    return
                raise
            yield message

    async def close(self) -> None:
        """Hear no more; who waits for the next one is told."""
        self._closed = True
        try:
            await self._sidecar._unsubscribe(self._number)  # noqa: SLF001 - they are one
        finally:
            self._put(None)

    def _put(self, message: Message | None) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(message)


class AsyncSidecar:
    """As `Sidecar`, for asyncio.

    Attributes:
        allocation_id: Who this guest is.
        workload: Whose copy it is.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        allocation_id: str,
        workload: str,
    ) -> None:
        self.allocation_id = allocation_id
        self.workload = workload
        self._writer = writer
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[frames.Frame]] = {}
        self._subscriptions: dict[int, AsyncSubscription] = {}
        self._reading = asyncio.create_task(self._read(reader))

    async def publish(self, name: str, payload: bytes = b"") -> None:
        """Send to whoever listens; raises MessagingError when it did not go."""
        await self._call("publish", payload, subject=name)

    async def subscribe(self, name: str, *, queue: str = "") -> AsyncSubscription:
        """Hear a subject from now on; of a queue group's members one gets each message."""
        number = next(self._numbers)
        subscription = self._subscriptions[number] = AsyncSubscription(self, number)
        try:
            await self._call("subscribe", number=number, subject=name, queue=queue)
        except MessagingError:
            del self._subscriptions[number]
            raise
        return subscription

    async def request(
        self, name: str, payload: bytes = b"", *, timeout_seconds: float = 5.0
    ) -> Message:
        """Ask somebody who listens; raises MessagingError when nobody answers."""
        frame = await self._call(
            "request", payload, seconds=timeout_seconds, subject=name,
            timeout_seconds=timeout_seconds,
        )  # fmt: skip
        return frames.message_in(frame)

    async def reply(self, message: Message, payload: bytes = b"") -> None:
        """Answer a request; raises MessagingError when it did not go."""
        if not message.reply:
            raise MessagingError("nobody waits for an answer to it")
        await self._call("publish", payload, subject=message.reply)

    async def publish_durable(
        self,
        name: str,
        payload: bytes = b"",
        *,
        to: str = "",
        message_id: str = "",
        timeout_seconds: float = 15.0,
    ) -> Stored:
        """As `Sidecar.publish_durable`."""
        frame = await self._call(
            "durable", payload, seconds=timeout_seconds, subject=name, to=to,
            message_id=message_id, timeout_seconds=timeout_seconds,
        )  # fmt: skip
        return frames.stored_in(frame)

    async def fetch(self, count: int = 1, *, timeout_seconds: float = 5.0) -> list[DurableMessage]:
        """As `Sidecar.fetch`."""
        frame = await self._call(
            "fetch", seconds=timeout_seconds, count=count, timeout_seconds=timeout_seconds
        )
        return frames.durables_in(frame)

    async def settle(self, message: DurableMessage, *, again: bool = False) -> None:
        """As `Sidecar.settle`."""
        await self._call("settle", seconds=15.0, token=message.token, again=again)

    async def consume(self) -> AsyncIterator[DurableMessage]:
        """Durable messages for ever; settle each."""
        while True:
            for message in await self.fetch(8, timeout_seconds=30.0):
                yield message

    async def report(self, reason: str = "") -> None:
        """Say how the application is: well, or why not."""
        await self._call("report", reason=reason)

    async def close(self) -> None:
        """Hang up."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _unsubscribe(self, number: int) -> None:
        if self._subscriptions.pop(number, None):
            await self._call("unsubscribe", number=number)

    async def _call(
        self,
        op: str,
        payload: bytes | None = None,
        *,
        number: int = 0,
        seconds: float = 0.0,
        **values: Any,
    ) -> frames.Frame:
        number = number or next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            if self._reading.done():
                raise MessagingError("the sidecar is gone")
            self._writer.write(frames.encode(op, number, payload, **values))
            async with asyncio.timeout(seconds + SPARE_SECONDS):
                await self._writer.drain()
                return frames.answered(await answer)
        except TimeoutError as error:
            raise MessagingError("the sidecar does not answer") from error
        except OSError as error:
            raise MessagingError("the sidecar is gone") from error
        finally:
            self._answers.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            with contextlib.suppress(OSError, ValueError, MessagingError):
                while line := await reader.readline():
                    self._take(frames.decode(line))
        finally:
            for subscription in self._subscriptions.values():
                subscription._put(None)  # noqa: SLF001 - they are one
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(MessagingError("the sidecar is gone"))

    def _take(self, frame: frames.Frame) -> None:
        number = frame.get("id")
        if not isinstance(number, int):
            return
        if frame.get("op") == "message":
            if subscription := self._subscriptions.get(number):
                subscription._put(frames.message_in(frame))  # noqa: SLF001 - they are one
        elif (answer := self._answers.get(number)) and not answer.done():
            answer.set_result(frame)
