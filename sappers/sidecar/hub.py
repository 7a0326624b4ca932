"""The guest's link to the hub: reconnects for ever; what cannot be sent now is dropped.

nats-py's own reconnection was seen to hang after a failed TLS handshake, so each connection is made
anew, under a time limit, and ends when it breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable
from itertools import cycle
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from sappers.sidecar.credentials import Credentials
from sappers.sidecar.log import say
from sappers.sidecar.settings import HubAccess

_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_RETRY_SECONDS = 0.5


Receive = Callable[[str, bytes], Awaitable[None]]


class HubLink:
    """A NATS client that follows the hub wherever the member says it is."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._access = HubAccess()
        self._dialling: asyncio.Task[None] | None = None
        self._subscriptions: list[tuple[str, Receive]] = []
        self.up = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether messages flow."""
        return self._client is not None and self._client.is_connected

    async def use(self, access: HubAccess) -> None:
        """Use these servers from now on; connects in the background."""
        if access == self._access:
            return
        self._access = access
        if self._dialling is not None:
            self._dialling.cancel()
        self._dialling = asyncio.create_task(self._dial(access)) if access.servers else None

    async def publish(self, subject: str, payload: bytes) -> bool:
        """Send now or not at all; whether it was sent."""
        if self._client is None or not self._client.is_connected:
            return False
        await self._client.publish(subject, payload)
        return True

    async def subscribe(self, subject: str, receive: Receive) -> None:
        """Have `receive(subject, payload)` called for each message, after reconnections too.

        What the guest's credentials do not allow never comes; the hub's refusal is logged.
        """
        self._subscriptions.append((subject, receive))
        if self._client is not None and self._client.is_connected:
            await _subscribe(self._client, subject, receive)

    async def _dial(self, access: HubAccess) -> None:
        """Be connected to one server after the other; ends only when cancelled."""
        for server in cycle(random.sample(access.servers, len(access.servers))):
            try:
                await self._serve(server, access)
            except Exception as error:  # any reason is a reason to try again
                say("hub-unreachable", server=server, reason=str(error) or type(error).__name__)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _serve(self, server: str, access: HubAccess) -> None:
        """Connect, and return when the connection is over."""
        client, over = Client(), asyncio.Event()

        async def ended() -> None:
            over.set()

        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                options = connect_options(client, server, access)
                await client.connect(**options, closed_cb=ended, error_cb=_report)
            for subject, receive in self._subscriptions:
                await _subscribe(client, subject, receive)
            self._client = client
            say("hub-connected", server=server)
            self.up.set()
            await over.wait()
        finally:
            self._client = None
            with contextlib.suppress(Exception):  # whatever it says, another one follows
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await client.close()


async def _subscribe(client: Client, subject: str, receive: Receive) -> None:
    async def arrived(message: Msg) -> None:
        await receive(message.subject, message.data)

    await client.subscribe(subject, cb=arrived)


async def _report(error: Exception) -> None:
    say("hub-trouble", reason=str(error) or type(error).__name__)


def connect_options(client: Client, server: str, access: HubAccess) -> dict[str, Any]:
    """The arguments of `client.connect`."""
    options: dict[str, Any] = {
        "servers": [f"{'tls' if access.ca_pem else 'nats'}://{server}"],
        "allow_reconnect": False,
        "connect_timeout": 5,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "pending_size": 64 * 1024,
    }
    if access.ca_pem:
        options["tls"] = ssl.create_default_context(cadata=access.ca_pem)
        options["tls_hostname"] = access.tls_name
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
