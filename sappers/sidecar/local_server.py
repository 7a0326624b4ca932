"""The sidecar's socket in the guest: applications in any language speak to the hub through it.

One JSON object a line, in both directions; docs/messaging.md has the table. Who speaks here is the
application, and it may be anybody's: lines, subscriptions, calls and connections are bounded, and
what makes no sense is refused with a line and counted. Credentials never come here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from sappers.sidecar.log import say
from sappers.sidecar.message import DurableMessage, Message, MessagingError, Nonsense
from sappers.sidecar.messaging import Messaging, Subscription

PROTOCOL = 1
LINE_BYTES_MAX = 128 * 1024
CONNECTIONS_MAX = 16
SUBSCRIPTIONS_MAX = 24  # of all connections; the hub allows a guest 32
CALLS_AT_ONCE = 16
REFUSED_MAX = 64  # of one connection, then it is closed
_SECONDS_MAX = 60.0

Frame = dict[str, Any]
_NONSENSE = (Nonsense, ValueError, TypeError, KeyError, ArithmeticError)


class LocalServer:
    """Serves the socket.

    Attributes:
        refused: How many lines and connections were refused.
    """

    def __init__(self, messaging: Messaging, listener: socket.socket) -> None:
        self._messaging = messaging
        self._listener = listener
        self._clients: dict[asyncio.Task[None], _Client] = {}
        self.refused = 0

    def start(self) -> None:
        """Take connections from now on."""
        self._listener.settimeout(0.0)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    async def close(self) -> None:
        """Take none any more, and end those that are there."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        for task in tuple(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def count(self) -> None:
        """Something was refused; said each time it has doubled."""
        self.refused += 1
        if self.refused & (self.refused - 1) == 0:
            say("application-refused", times=self.refused)

    @property
    def subscriptions(self) -> int:
        """How many there are."""
        clients = self._clients.values()
        return sum(len(client.subscriptions) + len(client.opening) for client in clients)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self._clients) >= CONNECTIONS_MAX:
                self.count()
                connection.settimeout(0.0)
                with contextlib.suppress(OSError):
                    connection.send(_line({"op": "error", "reason": "too many connections"}))
                connection.close()
                return
            client = _Client(self._messaging, self)
            task = asyncio.create_task(client.serve(connection))
            self._clients[task] = client
            task.add_done_callback(lambda done: self._clients.pop(done, None))


class _Client:
    """One connection."""

    def __init__(self, messaging: Messaging, server: LocalServer) -> None:
        self._messaging = messaging
        self._server = server
        self._writer: asyncio.StreamWriter
        self._refused = 0
        self._calls: set[asyncio.Task[None]] = set()
        self.subscriptions: dict[int, tuple[Subscription, asyncio.Task[None]]] = {}
        # Those that the hub was asked for: they count, else many at once would pass the limit.
        self.opening: set[int] = set()

    async def serve(self, connection: socket.socket) -> None:
        """Until it hangs up, or has been refused too often."""
        reader, self._writer = await asyncio.open_connection(sock=connection, limit=LINE_BYTES_MAX)
        try:
            self._send(
                op="hello",
                protocol=PROTOCOL,
                allocation=self._messaging.allocation_id,
                workload=self._messaging.workload,
            )
            while self._refused < REFUSED_MAX:
                await self._writer.drain()
                await self._take(await reader.readuntil(b"\n"))
        except asyncio.LimitOverrunError:
            self._refuse(None, f"a line has more than {LINE_BYTES_MAX} bytes")
        except (OSError, asyncio.IncompleteReadError):
            pass  # it hung up
        finally:
            for task in (*self._calls, *(task for _, task in self.subscriptions.values())):
                task.cancel()
            for subscription, _ in tuple(self.subscriptions.values()):
                await subscription.close()
            self.subscriptions.clear()
            self._writer.close()

    async def _take(self, line: bytes) -> None:
        number: int | None = None
        try:
            frame = json.loads(line)
            if not isinstance(frame, dict):
                raise Nonsense("a line is a JSON object")
            number = _number(frame)
            operation = _OPERATIONS.get(str(frame.get("op")))
            if operation is None:
                raise Nonsense(f"op is one of {', '.join(_OPERATIONS)}")
            if operation not in _SLOW:
                await operation(self, frame, number)
            elif len(self._calls) >= CALLS_AT_ONCE:
                raise Nonsense(f"more than {CALLS_AT_ONCE} calls at once")
            else:
                task = asyncio.create_task(self._call(operation, frame, number))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
        except RecursionError:
            self._refuse(number, "nested too deeply")
        except _NONSENSE as error:
            self._refuse(number, _why(error))
        except MessagingError as error:
            self._send(op="error", id=number, reason=str(error))

    async def _call(self, operation: Operation, frame: Frame, number: int | None) -> None:
        """What takes a while."""
        try:
            await operation(self, frame, number)
        except _NONSENSE as error:
            self._refuse(number, _why(error))
        except MessagingError as error:  # no offence
            self._send(op="error", id=number, reason=str(error))

    async def publish(self, frame: Frame, number: int | None) -> None:
        reply = _text(frame, "reply")
        await self._messaging.publish(_text(frame, "subject"), _payload(frame), reply=reply)
        self._done(number)

    async def subscribe(self, frame: Frame, number: int | None) -> None:
        if number is None or number in self.subscriptions or number in self.opening:
            raise Nonsense("a subscription needs an id of its own")
        if self._server.subscriptions >= SUBSCRIPTIONS_MAX:
            raise Nonsense(f"more than {SUBSCRIPTIONS_MAX} subscriptions")
        queue = _text(frame, "queue")
        self.opening.add(number)
        try:
            subscription = await self._messaging.subscribe(_text(frame, "subject"), queue=queue)
        finally:
            self.opening.discard(number)
        task = asyncio.create_task(self._deliver(number, subscription))
        self.subscriptions[number] = (subscription, task)
        self._done(number)

    async def unsubscribe(self, frame: Frame, number: int | None) -> None:  # noqa: ARG002
        if number is None or number not in self.subscriptions:
            raise Nonsense("there is no such subscription")
        subscription, task = self.subscriptions.pop(number)
        task.cancel()
        await subscription.close()
        self._done(number)

    async def request(self, frame: Frame, number: int | None) -> None:
        answer = await self._messaging.request(
            _text(frame, "subject"), _payload(frame), timeout_seconds=_seconds(frame)
        )
        self._send(op="answer", id=number, **_content(answer))

    async def durable(self, frame: Frame, number: int | None) -> None:
        stored = await self._messaging.publish_durable(
            _text(frame, "subject"),
            _payload(frame),
            to=_text(frame, "to"),
            message_id=_text(frame, "message_id"),
            timeout_seconds=_seconds(frame),
        )
        self._send(op="stored", id=number, sequence=stored.sequence, duplicate=stored.duplicate)

    async def fetch(self, frame: Frame, number: int | None) -> None:
        count, seconds = int(frame.get("count", 1)), _seconds(frame)
        found = await self._messaging.fetch(count, timeout_seconds=seconds)
        self._send(op="fetched", id=number, messages=[_content(each) for each in found])

    async def settle(self, frame: Frame, number: int | None) -> None:
        await self._messaging.settle_token(_text(frame, "token"), again=frame.get("again") is True)
        self._done(number)

    async def report(self, frame: Frame, number: int | None) -> None:
        self._messaging.report(_text(frame, "reason")[:200])
        self._done(number)

    async def _deliver(self, number: int, subscription: Subscription) -> None:
        async for message in subscription:
            self._send(op="message", id=number, **_content(message))
            with contextlib.suppress(OSError):
                await self._writer.drain()

    def _refuse(self, number: int | None, reason: str) -> None:
        self._refused += 1
        self._server.count()
        self._send(op="error", id=number, reason=reason)

    def _done(self, number: int | None) -> None:
        if number is not None:
            self._send(op="ok", id=number)

    def _send(self, **frame: Any) -> None:
        if not self._writer.is_closing():
            self._writer.write(_line(frame))


Operation = Callable[[_Client, Frame, int | None], Awaitable[None]]
_SLOW: frozenset[Operation] = frozenset(
    {_Client.request, _Client.durable, _Client.fetch, _Client.settle}
)
_OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        _Client.publish,
        _Client.subscribe,
        _Client.unsubscribe,
        _Client.report,
        _Client.request,
        _Client.durable,
        _Client.fetch,
        _Client.settle,
    )
}


def _content(message: Message | DurableMessage) -> Frame:
    frame = {"subject": message.subject, "payload": base64.b64encode(message.payload).decode()}
    if isinstance(message, DurableMessage):
        return frame | {"token": message.token, "deliveries": message.deliveries}
    return frame | ({"reply": message.reply} if message.reply else {})


def _line(frame: Frame) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode() + b"\n"


def _number(frame: Frame) -> int | None:
    number = frame.get("id")
    if number is None or (type(number) is int and 0 <= number < 1 << 53):
        return number
    raise Nonsense("id is a whole number")


def _text(frame: Frame, name: str) -> str:
    text = frame.get(name, "")
    if not isinstance(text, str):
        raise Nonsense(f"{name} is text")
    return text


def _payload(frame: Frame) -> bytes:
    try:
        return base64.b64decode(_text(frame, "payload"), validate=True)
    except ValueError as error:
        raise Nonsense("payload is base64") from error


def _seconds(frame: Frame) -> float:
    seconds = float(frame.get("timeout_seconds", 5.0))
    if not 0 <= seconds <= _SECONDS_MAX:  # NaN is neither
        raise Nonsense(f"timeout_seconds is at most {_SECONDS_MAX:g}")
    return seconds


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, MessagingError) else f"makes no sense: {error}"
