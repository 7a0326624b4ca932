"""The blocking client of the sidecar's socket; standard library only."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import socket
import threading
from collections.abc import Iterator
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

_CONNECT_SECONDS = 10.0


def connect(path: str = "") -> Sidecar:
    """A connection to the sidecar of this guest.

    Args:
        path: Its socket; else `SAPPERS_SOCKET`, else the usual place.

    Raises:
        OSError: There is none: this is no guest.
        MessagingError: It takes no more connections.
    """
    return Sidecar(path or os.environ.get(SOCKET_VARIABLE) or SOCKET_PATH)


class Subscription:
    """Messages of one subject; iterate, or take the next. The oldest go when nobody takes them."""

    def __init__(self, sidecar: Sidecar, number: int) -> None:
        self._sidecar = sidecar
        self._number = number
        self._waiting: queue.Queue[Message | None] = queue.Queue(QUEUED_MAX)
        self._closed = False

    def next(self, timeout_seconds: float | None = None) -> Message:
        """The next one.

        Raises:
            TimeoutError: None came.
            MessagingError: The sidecar is gone, or the subscription is closed.
        """
        try:
            message = self._waiting.get(timeout=timeout_seconds)
        except queue.Empty as error:
            raise TimeoutError(f"no message within {timeout_seconds} s") from error
        if message is None:
            self._put(None)
            raise MessagingError("closed" if self._closed else "the sidecar is gone")
        return message

    def __iter__(self) -> Iterator[Message]:
        """Messages until it is closed; raises as `next` when the sidecar goes."""
        while True:
            try:
                message = self.next()
            except MessagingError:
                if self._closed:
                    return
                raise
            yield message

    def close(self) -> None:
        """Hear no more; who waits for the next one, in another thread, is told."""
        self._closed = True
        try:
            self._sidecar._unsubscribe(self._number)  # noqa: SLF001 - they are one
        finally:
            self._put(None)

    def _put(self, message: Message | None) -> None:
        while True:
            try:
                return self._waiting.put_nowait(message)
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._waiting.get_nowait()


class Sidecar:
    """What an application can say and hear; safe to use from several threads.

    Attributes:
        allocation_id: Who this guest is.
        workload: Whose copy it is.
    """

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_CONNECT_SECONDS)
        try:
            self._socket.connect(path)
            self._lines = self._socket.makefile("rb")
            hello = frames.answered(frames.decode(self._lines.readline()))
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(None)
        self.allocation_id = str(hello["allocation"])
        self.workload = str(hello["workload"])
        self._numbers = itertools.count(1)
        self._sending = threading.Lock()
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._gone = False
        threading.Thread(target=self._read, name="sidecar", daemon=True).start()

    def publish(self, name: str, payload: bytes = b"") -> None:
        """Send to whoever listens, below the workload's subjects or to `sappers.…`.

        Raises:
            MessagingError: It did not go.
        """
        self._call("publish", payload, subject=name)

    def subscribe(self, name: str, *, queue: str = "") -> Subscription:
        """Hear a subject from now on; of a queue group's members one gets each message.

        Raises:
            MessagingError: It is refused.
        """
        number = next(self._numbers)
        subscription = self._subscriptions[number] = Subscription(self, number)
        try:
            self._call("subscribe", number=number, subject=name, queue=queue)
        except MessagingError:
            del self._subscriptions[number]
            raise
        return subscription

    def request(self, name: str, payload: bytes = b"", *, timeout_seconds: float = 5.0) -> Message:
        """Ask somebody who listens; their answer.

        Raises:
            MessagingError: Nobody listens, or nobody answers in time.
        """
        return frames.message_in(
            self._call(
                "request", payload, seconds=timeout_seconds, subject=name,
                timeout_seconds=timeout_seconds,
            )
        )  # fmt: skip

    def reply(self, message: Message, payload: bytes = b"") -> None:
        """Answer a request.

        Raises:
            MessagingError: The message is no request, or the answer did not go.
        """
        if not message.reply:
            raise MessagingError("nobody waits for an answer to it")
        self._call("publish", payload, subject=message.reply)

    def publish_durable(
        self,
        name: str,
        payload: bytes = b"",
        *,
        to: str = "",
        message_id: str = "",
        timeout_seconds: float = 15.0,
    ) -> Stored:
        """Have a message kept until a guest of the workload has settled it; see `Messaging`.

        Raises:
            MessagingError: It is refused, or may or may not have been kept: send it again with
                the same id.
        """
        return frames.stored_in(
            self._call(
                "durable", payload, seconds=timeout_seconds, subject=name, to=to,
                message_id=message_id, timeout_seconds=timeout_seconds,
            )
        )  # fmt: skip

    def fetch(self, count: int = 1, *, timeout_seconds: float = 5.0) -> list[DurableMessage]:
        """Durable messages of this workload, at most 8; none when none came in time.

        Raises:
            MessagingError: The hub or its streams cannot be reached.
        """
        return frames.durables_in(
            self._call(
                "fetch", seconds=timeout_seconds, count=count, timeout_seconds=timeout_seconds
            )
        )

    def settle(self, message: DurableMessage, *, again: bool = False) -> None:
        """Say that a durable message is dealt with, or is to be delivered again.

        Raises:
            MessagingError: It is not known, or the hub cannot be reached.
        """
        self._call("settle", seconds=15.0, token=message.token, again=again)

    def consume(self) -> Iterator[DurableMessage]:
        """Durable messages for ever; settle each.

        Raises:
            MessagingError: The hub or its streams cannot be reached.
        """
        while True:
            yield from self.fetch(8, timeout_seconds=30.0)

    def report(self, reason: str = "") -> None:
        """Say how the application is: well, or why not.

        Raises:
            MessagingError: The sidecar is gone.
        """
        self._call("report", reason=reason)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unsubscribe(self, number: int) -> None:
        if self._subscriptions.pop(number, None):
            # The id of a subscription says which one; the answer comes under it.
            self._call("unsubscribe", number=number)

    def _call(
        self,
        op: str,
        payload: bytes | None = None,
        *,
        number: int = 0,
        seconds: float = 0.0,
        **values: Any,
    ) -> dict[str, Any]:
        number = number or next(self._numbers)
        answer: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._answers[number] = answer
        try:
            if self._gone:
                raise MessagingError("the sidecar is gone")
            with self._sending:
                self._socket.sendall(frames.encode(op, number, payload, **values))
            frame = answer.get(timeout=seconds + SPARE_SECONDS)
        except OSError as error:
            raise MessagingError("the sidecar is gone") from error
        except queue.Empty as error:
            raise MessagingError("the sidecar does not answer") from error
        finally:
            self._answers.pop(number, None)
        if frame is None:
            raise MessagingError("the sidecar is gone")
        return frames.answered(frame)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, MessagingError):
            for line in self._lines:
                self._take(frames.decode(line))
        self._gone = True
        for subscription in tuple(self._subscriptions.values()):
            subscription._put(None)  # noqa: SLF001 - they are one
        for answer in tuple(self._answers.values()):
            answer.put(None)

    def _take(self, frame: dict[str, Any]) -> None:
        number = frame.get("id")
        if not isinstance(number, int):
            return
        if frame.get("op") == "message":
            if subscription := self._subscriptions.get(number):
                subscription._put(frames.message_in(frame))  # noqa: SLF001 - they are one
        elif answer := self._answers.get(number):
            answer.put(frame)
