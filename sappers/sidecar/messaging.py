"""Messaging for applications in the sidecar's own process; others use its socket (`client`).

Names are below the workload's own subjects unless they begin with `sappers.`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from sappers.model import subjects
from sappers.sidecar import hub
from sappers.sidecar.message import (
    PAYLOAD_BYTES_MAX,
    SUBJECT_CHARACTERS_MAX,
    DurableMessage,
    Message,
    MessagingError,
    Nonsense,
    Stored,
)

REQUEST_SECONDS = 5.0
STORE_SECONDS = 15.0
FETCH_MAX = 8  # they come in one message
_WAITING_MAX, _WAITING_BYTES_MAX = 1024, 512 * 1024  # the guest has 128 MiB
_ATTEMPT_SECONDS = 3.0  # an agent that has just died answers nobody
_PAUSE_SECONDS = 0.3
_AWAY_SECONDS = 5.0


class Subscription:
    """Messages of one subject, `async for` or `next`; the oldest go when nobody takes them.

    Attributes:
        dropped: How many nobody took in time.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._arrival = asyncio.Event()
        self._of_link: hub.Subscription | None = None

    async def next(self, timeout_seconds: float | None = None) -> Message:
        """The next one.

        Raises:
            TimeoutError: None came.
        """
        async with asyncio.timeout(timeout_seconds):
            while not self._waiting:
                self._arrival.clear()
                await self._arrival.wait()
        return self._take()

    async def close(self) -> None:
        """Hear no more."""
        if self._of_link is not None:
            await self._of_link.close()

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            yield await self.next()

    def _take(self) -> Message:
        message = self._waiting.popleft()
        self._waiting_bytes -= len(message.payload)
        return message

    async def _arrived(self, message: Message) -> None:
        self._waiting.append(message)
        self._waiting_bytes += len(message.payload)
        while len(self._waiting) > _WAITING_MAX or self._waiting_bytes > _WAITING_BYTES_MAX:
            self._take()
            self.dropped += 1
        self._arrival.set()

    async def _begin(self, link: hub.HubLink, subject: str, queue: str) -> None:
        self._of_link = await link.subscribe(subject, self._arrived, queue)


class Messaging:
    """What a guest's application can say and hear.

    Args:
        link: The guest's connection to the hub.
        allocation_id: Who the guest is.
        workload: Whose copy it is.
        report: Told how the application is: well (empty), or why not.
    """

    def __init__(
        self, link: hub.HubLink, allocation_id: str, workload: str, report: Callable[[str], None]
    ) -> None:
        self.allocation_id = allocation_id
        self.workload = workload
        self.link = link
        self.report = report

    async def publish(self, name: str, payload: bytes = b"", *, reply: str = "") -> None:
        """Send to whoever listens.

        Raises:
            MessagingError: The hub cannot be reached, or the message is none.
        """
        if reply:
            check_subject(reply)
        await self._send(self._subject(name), checked(payload), reply)

    async def subscribe(self, name: str, *, queue: str = "") -> Subscription:
        """Hear a subject from now on; of a queue group's members one gets each message.

        Raises:
            MessagingError: The name is none.
        """
        subscription = Subscription()
        await subscription._begin(  # noqa: SLF001 - they are one
            self.link, self._subject(name, pattern=True), queue and check_subject(queue)
        )
        return subscription

    async def request(
        self, name: str, payload: bytes = b"", *, timeout_seconds: float = REQUEST_SECONDS
    ) -> Message:
        """Ask somebody who listens; their answer.

        Raises:
            MessagingError: Nobody listens, or nobody answers in time.
        """
        return await self.link.request(
            self._inbox, self._subject(name), checked(payload), timeout_seconds
        )

    async def reply(self, message: Message, payload: bytes = b"") -> None:
        """Answer a request.

        Raises:
            MessagingError: The message is no request, or the hub cannot be reached.
        """
        if not message.reply:
            raise MessagingError("nobody waits for an answer to it")
        await self._send(message.reply, checked(payload))

    async def publish_durable(
        self,
        name: str,
        payload: bytes = b"",
        *,
        to: str = "",
        message_id: str = "",
        timeout_seconds: float = STORE_SECONDS,
    ) -> Stored:
        """Have a message kept until a guest of the workload is done with it; returns once it is.

        Args:
            name: Below the workload's durable subjects, such as `orders.new`.
            payload: The message.
            to: A workload that this one is linked to; its own when empty.
            message_id: Sent twice within two minutes, it is kept once.
            timeout_seconds: How long to try.

        Raises:
            MessagingError: It is refused, or may or may not have been kept: send it again with
                the same id.
        """
        message_id = message_id or os.urandom(12).hex()
        head = {"name": check_subject(name), "to": to or self.workload, "id": message_id}
        body = json.dumps(head).encode() + b"\n" + checked(payload)
        answer = await self._call("store", body, timeout_seconds)
        return Stored(int(answer["sequence"]), bool(answer.get("duplicate")))

    async def fetch(
        self, count: int = 1, *, timeout_seconds: float = REQUEST_SECONDS
    ) -> list[DurableMessage]:
        """Durable messages of this workload, at most `FETCH_MAX`; none when none came in time.

        What is not settled within 30 s is delivered again, to any guest of the workload.

        Raises:
            MessagingError: The hub or its streams cannot be reached.
        """
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while True:
            left = deadline - asyncio.get_running_loop().time()
            wait = max(0.0, min(left, _ATTEMPT_SECONDS))
            ask = {"count": max(1, min(count, FETCH_MAX)), "wait_seconds": wait}
            answer = await self._call("fetch", json.dumps(ask).encode(), wait + _ATTEMPT_SECONDS)
            if answer["messages"] or left <= _ATTEMPT_SECONDS:
                return [
                    DurableMessage(
                        one["subject"],
                        base64.b64decode(one["payload"]),
                        one["token"],
                        int(one["deliveries"]),
                    )
                    for one in answer["messages"]
                ]

    async def settle(self, message: DurableMessage, *, again: bool = False) -> None:
        """Say that a durable message is dealt with, or is to be delivered again.

        Raises:
            MessagingError: It is not known, or the hub cannot be reached.
        """
        await self.settle_token(message.token, again=again)

    async def settle_token(self, token: str, *, again: bool = False) -> None:
        """As `settle`, by what a durable message is known as."""
        ask = {"token": token, "again": again}
        await self._call("settle", json.dumps(ask).encode(), STORE_SECONDS)

    async def consume(self) -> AsyncIterator[DurableMessage]:
        """Durable messages for ever; settle each.

        Raises:
            MessagingError: The hub or its streams cannot be reached.
        """
        while True:
            for message in await self.fetch(FETCH_MAX, timeout_seconds=30.0):
                yield message

    async def _call(self, call: str, payload: bytes, timeout_seconds: float) -> dict[str, Any]:
        """Ask an agent; ask again where one may have died meanwhile."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        subject = subjects.guest_durable(self.allocation_id, call)
        while True:
            left = deadline - loop.time()
            try:
                message = await self.link.request(
                    self._inbox, subject, payload, min(left, _ATTEMPT_SECONDS * 2)
                )
                answer = json.loads(message.payload)
                if not answer.get("later"):
                    break
                failure = MessagingError(str(answer["error"]))
            except MessagingError as error:
                failure = error
            except (ValueError, AttributeError, KeyError) as error:
                failure = MessagingError(f"the agent's answer makes no sense: {error}")
            if deadline - loop.time() < _PAUSE_SECONDS * 2:
                raise failure
            await asyncio.sleep(_PAUSE_SECONDS)
        if "error" in answer:
            raise MessagingError(str(answer["error"]))
        return dict(answer)

    async def _send(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send, when need be once the hub is back: applications are there before it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AWAY_SECONDS):
                await self.link.up.wait()
        if not await self.link.publish(subject, payload, reply):
            raise MessagingError("the hub cannot be reached now")

    @property
    def _inbox(self) -> str:
        return subjects.inbox(self.allocation_id)

    def _subject(self, name: str, *, pattern: bool = False) -> str:
        check_subject(name, pattern=pattern)
        if name.startswith("sappers."):
            return name
        return f"{subjects.application(self.workload)}.{name}"


def check_subject(name: str, *, pattern: bool = False) -> str:
    """The name, if it can be (the end of) a subject.

    Raises:
        Nonsense: It cannot.
    """
    tokens = name.split(".")
    good = len(name) <= SUBJECT_CHARACTERS_MAX and all(
        token and token.isascii() and token.isprintable() and " " not in token for token in tokens
    )
    wild = any(token in ("*", ">") for token in tokens)
    if not good or (wild and not pattern) or ">" in tokens[:-1]:
        raise Nonsense(f"{name[:80]!r} is no subject")
    return name


def checked(payload: bytes) -> bytes:
    """The payload, if the hub carries so much.

    Raises:
        Nonsense: It does not.
    """
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise Nonsense(f"more than {PAYLOAD_BYTES_MAX} bytes")
    return payload
