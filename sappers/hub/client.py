"""A client of the hub that never gives up.

The reconnecting is our own: nats-py's waits for the dead server's TLS farewell, up to 30 s, before
it dials the next one. So each connection here is used once, watched by pings, and thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.aio.subscription import DEFAULT_SUB_PENDING_MSGS_LIMIT, Subscription
from nats.js import JetStreamContext

from sappers.errors import HubError
from sappers.model import subjects
from sappers.model.member import Member
from sappers.ports import Answer, Busy, Received, Unsubscribe
from sappers.security.tls import Identity, client_context

_CONNECT_SECONDS = 4.0
_CHECK_SECONDS = 2.0  # a silent server is given up after at most twice this
_RETRY_SECONDS = 0.5
_CLOSE_SECONDS = 2.0
_READY_SECONDS = 0.02
_SLOW_SECONDS = 10.0  # between two complaints
_PENDING_BYTES = 32 * 1024 * 1024
_ANSWERED_AT_ONCE = 1024  # of at most 68 KiB each

log = structlog.get_logger("sappers.hub")


class _Wanted:
    """A subscription that is kept up, over any number of connections."""

    def __init__(
        self,
        subject: str,
        deliver: Callable[[Msg], Awaitable[None]],
        *,
        queue: str = "",
        waiting_max: int = 0,
        dropped: Callable[[], None] | None = None,
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.waiting_max = waiting_max or DEFAULT_SUB_PENDING_MSGS_LIMIT
        self.dropped = dropped
        self.refused = 0
        self._deliver = deliver

    async def deliver(self, message: Msg) -> None:
        # A server may have been asked to deliver a message here under another subject.
        if not subjects.matches(self.subject, message.subject):
            self.refused += 1
            return
        try:
            await self._deliver(message)
        except Exception:  # one bad message must not end the subscription
            log.exception("message not understood", subject=message.subject)


class NatsHubClient:
    """Publishes and subscribes over whichever hub server answers; satisfies `ports.HubClient`.

    Attributes:
        dropped: How many messages were dropped because nobody took them.
    """

    def __init__(
        self, identity: Identity, credentials: Callable[[], str], *, name: str | None = None
    ) -> None:
        """`credentials` gives the text of a credentials file, for each connection anew."""
        self.dropped = 0
        self._context = client_context(identity)
        self._credentials = credentials
        self._inbox = subjects.inbox(secrets.token_hex(8))  # where guests may answer, too
        self._name = name or identity.node_id
        self._servers: Mapping[str, str] = {}  # whose certificate each must show
        self._subscriptions: list[_Wanted] = []
        self._live: dict[Subscription, _Wanted] = {}
        self._slow_at = float("-inf")
        self._answering: set[asyncio.Task[None]] = set()
        self._connection: Client | None = None
        self._connected_to = ""
        self._wake = asyncio.Event()
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None
        self._farewells: set[asyncio.Task[None]] = set()

    async def connect(self, servers: Sequence[Member]) -> None:
        """Use just these servers from now on; returns at once, connects in the background."""
        self._servers = {_url(one): one.id for one in servers}
        self._wake.set()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_connected())

    @property
    def refused(self) -> int:
        """How many messages came under a subject that was not asked for."""
        return sum(wanted.refused for wanted in self._subscriptions)

    @property
    def connected(self) -> bool:
        """Whether messages flow."""
        return self._connection is not None and self._connection.is_connected

    async def ready(self, timeout_seconds: float) -> None:
        """Return once messages flow.

        Raises:
            HubError: They do not within the time.
        """
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not self.connected:
            if asyncio.get_running_loop().time() >= deadline:
                raise HubError("the hub cannot be reached now")
            await asyncio.sleep(_READY_SECONDS)

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send; dropped and counted while not connected (state is the truth)."""
        connection = self._connection
        if connection is not None and connection.is_connected:
            try:
                await connection.publish(subject, payload)
            except (nats.errors.Error, OSError) as error:
                log.warning("message not sent", subject=subject, why=_why(error))
            else:
                return
        self.dropped += 1
        log.debug("message dropped", subject=subject, dropped=self.dropped)

    async def subscribe(
        self,
        subject: str,
        received: Received,
        *,
        waiting_max: int = 0,
        dropped: Callable[[], None] | None = None,
    ) -> Unsubscribe:
        """Call `received(subject, payload)` for each message, over reconnects too.

        Returns what ends it; see `ports.HubClient`.
        """

        async def deliver(message: Msg) -> None:
            await received(message.subject, message.data)

        wanted = _Wanted(subject, deliver, waiting_max=waiting_max, dropped=dropped)
        return await self._listen(wanted)

    async def serve(
        self,
        subject: str,
        queue: str,
        answer: Answer,
        *,
        at_once: int = 0,
        busy: Busy | None = None,
        waiting_max: int = 0,
        dropped: Callable[[], None] | None = None,
    ) -> Unsubscribe:
        """Have `answer(subject, payload, reply)` called for each request; send what it returns.

        Of those that serve with the same queue one gets each request. Returns what ends it; see
        `ports.HubClient`.
        """
        under_way: set[asyncio.Task[None]] = set()

        async def respond(message: Msg) -> None:
            try:
                said = await answer(message.subject, message.data, message.reply)
            except Exception:  # one bad request must not end the service
                log.exception("request not understood", subject=message.subject)
            else:
                if said is not None:
                    await self.publish(message.reply, said)

        async def begin(message: Msg) -> None:
            # Here, not in the task: of a burst, many come before the first task runs.
            if (at_once and len(under_way) >= at_once) or (
                len(self._answering) >= _ANSWERED_AT_ONCE
            ):
                said = busy(message.reply, len(under_way)) if busy is not None else None
                if said is None:
                    self.dropped += 1
                else:
                    await self.publish(message.reply, said)
                return
            task = asyncio.create_task(respond(message))
            for tasks in (under_way, self._answering):
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        return await self._listen(
            _Wanted(subject, begin, queue=queue, waiting_max=waiting_max, dropped=dropped)
        )

    async def ask(self, subject: str, payload: bytes, timeout_seconds: float) -> bytes:
        """One answer to a request.

        Raises:
            HubError: Not connected, or nobody answers.
        """
        try:
            answer = await self._connected().request(subject, payload, timeout=timeout_seconds)
        except (nats.errors.Error, OSError) as error:
            raise HubError(f"no answer from {subject.rsplit('.', 5)[0]}: {_why(error)}") from error
        return answer.data

    def jetstream(self, timeout_seconds: float) -> JetStreamContext:
        """The hub's durable streams, as this connection sees them.

        Raises:
            HubError: Not connected.
        """
        return self._connected().jetstream(timeout=timeout_seconds)

    def _connected(self) -> Client:
        if self._connection is None or not self._connection.is_connected:
            raise HubError("the hub cannot be reached now")
        return self._connection

    async def _listen(self, wanted: _Wanted) -> Unsubscribe:
        self._subscriptions.append(wanted)
        connection = self._connection
        if connection is not None and connection.is_connected:
            # If it breaks now, the next connection subscribes.
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._subscribe_on(connection, wanted)

        def unsubscribe() -> None:
            if wanted in self._subscriptions:
                self._subscriptions.remove(wanted)
            for live in [live for live, its in self._live.items() if its is wanted]:
                del self._live[live]
                # Not here: it may be its own callback that ends it, which would cancel itself.
                self._finish(live.unsubscribe())

        return unsubscribe

    async def close(self) -> None:
        """Flush and end."""
        # Beside the cancellation, which wait_for of Python 3.11 swallows when it comes together
        # with the end of what is waited for.
        self._closing = True
        self._wake.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        for task in tuple(self._answering):
            task.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await connection.flush(int(_CLOSE_SECONDS))
            self._say_farewell(connection)
        await asyncio.gather(*self._farewells, return_exceptions=True)

    async def _keep_connected(self) -> None:
        while not self._closing:
            for url in random.sample(list(self._servers), len(self._servers)):
                member_id = self._servers.get(url)
                if member_id is not None and await self._open(url, member_id):
                    await self._watch()
                    break
            else:
                await self._sleep(_RETRY_SECONDS * random.uniform(0.7, 1.3))

    async def _open(self, url: str, member_id: str) -> bool:
        connection = Client()
        self._live.clear()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await connection.connect(
                    servers=[url],
                    name=self._name,
                    tls=self._context,
                    tls_hostname=member_id,  # another member is no better than a stranger
                    tls_handshake_first=True,  # else a liar could talk us out of TLS
                    user_credentials=RawCredentials(self._credentials()),
                    inbox_prefix=self._inbox,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=int(_CONNECT_SECONDS),
                    error_cb=self._noticer(connection),
                )
                for wanted in tuple(self._subscriptions):
                    await self._subscribe_on(connection, wanted)
        except Exception as error:  # garbage from a server raises anything; we must not end
            log.debug("hub server not usable", server=url, why=_why(error))
            self._say_farewell(connection)
            return False
        self._connection, self._connected_to = connection, url
        log.info("connected to the hub", server=url)
        return True

    async def _watch(self) -> None:
        """Return once the connection is of no more use."""
        connection = self._connection
        assert connection is not None
        try:
            while (
                not self._closing
                and connection.is_connected
                and self._connected_to in self._servers
            ):
                await self._sleep(_CHECK_SECONDS)
                if connection.is_connected and not self._closing:
                    await connection.flush(int(_CHECK_SECONDS))
        except (nats.errors.Error, OSError) as error:
            log.debug("hub server is silent", server=self._connected_to, why=_why(error))
        if self._connected_to in self._servers and not self._closing:
            log.info("lost the hub", server=self._connected_to)
        self._connection = None
        self._say_farewell(connection)

    async def _subscribe_on(self, connection: Client, wanted: _Wanted) -> None:
        live = await connection.subscribe(
            wanted.subject,
            queue=wanted.queue,
            cb=wanted.deliver,
            pending_msgs_limit=wanted.waiting_max,
            pending_bytes_limit=_PENDING_BYTES,
        )
        self._live[live] = wanted

    def _noticer(self, connection: Client) -> Callable[[Exception], Awaitable[None]]:
        async def notice(error: Exception) -> None:
            if isinstance(error, nats.errors.SlowConsumerError):
                self._note_slow(error)
            elif connection is self._connection:
                log.debug("hub connection", why=_why(error))
                self._wake.set()

        return notice

    def _note_slow(self, error: nats.errors.SlowConsumerError) -> None:
        """Called for every message that is dropped, so it must cost little."""
        wanted = self._live.get(error.sub)
        if wanted is not None and wanted.dropped is not None:
            wanted.dropped()
            return
        now = asyncio.get_running_loop().time()
        if now - self._slow_at > _SLOW_SECONDS:
            self._slow_at = now
            log.warning("messages come faster than they are taken", why=_why(error))

    async def _sleep(self, seconds: float) -> None:
        """Until the time is over, the servers changed or the connection reports trouble."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    def _say_farewell(self, connection: Client) -> None:
        self._finish(connection.close())

    def _finish(self, last: Coroutine[Any, Any, None]) -> None:
        """Let a farewell be said in the background; nothing depends on it."""

        async def say() -> None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await last

        task = asyncio.create_task(say())
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)


def _url(member: Member) -> str:
    address = f"[{member.address}]" if ":" in member.address else member.address
    return f"nats://{address}:{member.ports.hub}"


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
