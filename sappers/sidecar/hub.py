"""The guest's link to the hub: reconnects for ever; what cannot be sent now is dropped.

nats-py's own reconnection was seen to hang after a failed TLS handshake, so each connection is made
anew, under a time limit, and ends when it breaks.

New servers or credentials make a second connection before the first one ends. For that moment both
have every subscription, as members of one queue group that is this subscription's own, so that each
message comes once: over one or the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from sappers.model import subjects
from sappers.sidecar.credentials import Credentials
from sappers.sidecar.log import say
from sappers.sidecar.message import Message, MessagingError
from sappers.sidecar.settings import HubAccess

_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_FLUSH_SECONDS = 5
# For one subscription: the guest has 128 MiB.
_PENDING_MESSAGES, _PENDING_BYTES = 1024, 1024 * 1024

Receive = Callable[[Message], Awaitable[None]]


class Subscription:
    """Interest in a subject, over all connections to come."""

    def __init__(self, link: HubLink, subject: str, receive: Receive, queue: str) -> None:
        self.subject = subject
        self.queue = queue
        self.receive = receive
        self._link = link

    async def close(self) -> None:
        """Hear no more."""
        await self._link.forget(self)


class _Connection:
    """One connection to one server; used once."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.client = Client()
        self.over = asyncio.Event()
        self.subscribed: dict[Subscription, NatsSubscription] = {}

    async def open(self, access: HubAccess, context: ssl.SSLContext | None) -> None:
        async def ended() -> None:
            self.over.set()

        async with asyncio.timeout(_CONNECT_SECONDS):
            options = connect_options(self.client, self.server, access, context)
            await self.client.connect(**options, closed_cb=ended, error_cb=_report)

    async def subscribe(self, subscription: Subscription) -> None:
        if subscription in self.subscribed:
            return

        async def arrived(message: Msg) -> None:
            if not subjects.matches(subscription.subject, message.subject):
                return  # a server was asked to deliver it here
            status = (message.headers or {}).get("Status")
            if status == "503":
                await subscription.receive(Message(message.subject, b"", NOBODY))
            else:
                await subscription.receive(Message(message.subject, message.data, message.reply))

        self.subscribed[subscription] = await self.client.subscribe(
            subscription.subject,
            queue=subscription.queue,
            cb=arrived,
            pending_msgs_limit=_PENDING_MESSAGES,
            pending_bytes_limit=_PENDING_BYTES,
        )

    async def settle(self) -> None:
        """Return once the server has read all that was said to it."""
        # The client's first PING overtakes what it has not written yet; the second follows it.
        for _ in range(2):
            await self.client.flush(_FLUSH_SECONDS)

    async def forget(self, subscription: Subscription) -> None:
        if known := self.subscribed.pop(subscription, None):
            with contextlib.suppress(Exception):  # a connection that breaks has none either
                await known.unsubscribe()

    async def close(self, *, drain: bool) -> None:
        with contextlib.suppress(Exception):  # whatever it says, another one follows
            async with asyncio.timeout(_CLOSE_SECONDS):
                if drain:
                    await self.client.drain()
                    await self.over.wait()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.client.close()


_AWAY = "the hub cannot be reached now"
NOBODY = "nobody"  # in place of a reply subject: the server knows of nobody who would answer


class HubLink:
    """A NATS client that follows the hub wherever the member says it is."""

    def __init__(self) -> None:
        self._access = HubAccess()
        self._context: ssl.SSLContext | None = None
        self._current: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[Subscription, None] = {}
        self._inbox = ""
        self._answers: dict[str, asyncio.Future[Message]] = {}
        self._asked = 0
        self.up = asyncio.Event()  # set while messages flow

    @property
    def connected(self) -> bool:
        """Whether messages flow."""
        return self._current is not None and self._current.client.is_connected

    async def use(self, access: HubAccess) -> None:
        """Use these servers and credentials from now on; connects in the background."""
        if access == self._access:
            return
        if access.ca_pem != self._access.ca_pem or self._context is None:
            context = ssl.create_default_context(cadata=access.ca_pem) if access.ca_pem else None
            self._context = context
        self._access = access
        if self._keeper is not None:
            self._keeper.cancel()
        if access.servers:
            self._keeper = asyncio.create_task(self._keep_connected(access))
        else:
            self._keeper = None
            self.up.clear()
            self._retire()

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> bool:
        """Send now or not at all; whether it was sent."""
        if self._current is None or not self._current.client.is_connected:
            return False
        await self._current.client.publish(subject, payload, reply)
        return True

    async def subscribe(self, subject: str, receive: Receive, queue: str = "") -> Subscription:
        """Have `receive(message)` called for each message, after reconnections too.

        What the guest's credentials do not allow never comes; the hub's refusal is logged. Of the
        members of a queue group one gets each message.
        """
        return await self._subscribe(subject, receive, queue or f"one-{os.urandom(8).hex()}")

    async def _subscribe(self, subject: str, receive: Receive, queue: str) -> Subscription:
        subscription = Subscription(self, subject, receive, queue)
        self._subscriptions[subscription] = None
        if self._current is not None and self._current.client.is_connected:
            await self._current.subscribe(subscription)
            with contextlib.suppress(Exception):  # the next connection has it
                await self._current.settle()
        return subscription

    async def forget(self, subscription: Subscription) -> None:
        """End a subscription; nothing where there is none."""
        self._subscriptions.pop(subscription, None)
        if self._current is not None:
            await self._current.forget(subscription)

    async def request(
        self, inbox: str, subject: str, payload: bytes, timeout_seconds: float
    ) -> Message:
        """Ask, and wait for one answer, in an inbox below a prefix that only this guest may hear.

        Raises:
            MessagingError: It did not go, nobody listens, or no answer came in time.
        """
        if not self._inbox:
            self._inbox = f"{inbox}.{os.urandom(12).hex()}"
            # No queue: only so the server says that nobody listens. An answer that comes twice does
            # no harm.
            await self._subscribe(f"{self._inbox}.*", self._answered, "")
        self._asked += 1
        reply = f"{self._inbox}.{self._asked}"
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[reply] = answer
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.up.wait()
                if not await self.publish(subject, payload, reply):
                    raise MessagingError(_AWAY)
                message = await answer
        except TimeoutError as error:
            why = f"no answer within {timeout_seconds:g} s"
            raise MessagingError(why if self.connected else _AWAY) from error
        finally:
            del self._answers[reply]
        if message.reply == NOBODY:
            raise MessagingError(f"nobody listens to {subject}")
        return message

    async def _answered(self, message: Message) -> None:
        answer = self._answers.get(message.subject)
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _keep_connected(self, access: HubAccess) -> None:
        """Be connected to one server after the other; ends only when cancelled."""
        while True:
            for server in self._in_order(access):
                connection = _Connection(server)
                try:
                    await self._switch_to(connection, access)
                    await connection.over.wait()
                    if self._current is connection:
                        self.up.clear()
                except Exception as error:  # any reason is a reason to try again
                    why = str(error) or type(error).__name__
                    say("hub-unreachable", server=server, reason=why)
                    self._close(connection)
                await asyncio.sleep(_RETRY_SECONDS)

    def _in_order(self, access: HubAccess) -> list[str]:
        """Where the old connection is comes first: within one server a switch loses nothing."""
        servers = random.sample(access.servers, len(access.servers))
        if self.connected and self._current is not None:
            servers.sort(key=lambda server: server != self._current_server())
        return servers

    def _current_server(self) -> str:
        return self._current.server if self._current is not None else ""

    async def _switch_to(self, connection: _Connection, access: HubAccess) -> None:
        try:
            await connection.open(access, self._context)
            for subscription in tuple(self._subscriptions):
                await connection.subscribe(subscription)
            await connection.settle()
            if access is not self._access:
                # Cancelled meanwhile, which the client's wait_for may swallow (Python 3.11).
                raise asyncio.CancelledError
        except asyncio.CancelledError:
            self._close(connection)
            raise
        self._retire()
        self._current = connection
        for subscription in tuple(self._subscriptions):  # that came meanwhile
            await connection.subscribe(subscription)
        say("hub-connected", server=connection.server)
        self.up.set()

    def _retire(self) -> None:
        """Let the current connection go, once what it has received is dealt with."""
        old, self._current = self._current, None
        if old is not None:
            self._close(old, drain=True)

    def _close(self, connection: _Connection, *, drain: bool = False) -> None:
        task = asyncio.create_task(connection.close(drain=drain))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


async def _report(error: Exception) -> None:
    say("hub-trouble", reason=str(error) or type(error).__name__)


def connect_options(
    client: Client, server: str, access: HubAccess, context: ssl.SSLContext | None
) -> dict[str, Any]:
    """The arguments of `client.connect`."""
    options: dict[str, Any] = {
        "servers": [f"{'tls' if access.ca_pem else 'nats'}://{server}"],
        "allow_reconnect": False,
        "connect_timeout": 5,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "pending_size": 64 * 1024,
    }
    if context is not None:
        options["tls"] = context
        options["tls_hostname"] = access.names.get(server, access.tls_name)
    if access.credentials:
        credentials = Credentials(access.credentials)

        def sign(nonce: str) -> bytes:
            if access.ca_pem and not is_encrypted(client):
                raise ConnectionError("the server speaks no TLS, so it is not the hub")
            return credentials.sign(nonce)

        options["user_jwt_cb"] = lambda: credentials.jwt
        options["signature_cb"] = sign
    return options


def is_encrypted(client: Client) -> bool:
    """Whether the connection is under TLS; nats-py believes a server that says it need not be.

    It cannot begin with TLS instead: the hub waits 50 ms for that, a guest may need longer.
    """
    transport: Any = client._transport  # noqa: SLF001 - nothing public says so
    writer = transport._io_writer  # noqa: SLF001
    return writer is not None and writer.get_extra_info("ssl_object") is not None
