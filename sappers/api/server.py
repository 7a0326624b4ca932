"""The HTTP listener: TLS 1.3, certificates of the cluster only, inside the agent's event loop.

Invariant: nothing of HTTP is parsed for a peer before its certificate has been verified; and no
peer, verified or not, can hold a connection for ever by being slow.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sappers.api.app import build_app
from sappers.decisions.strangers import who_makes_room
from sappers.errors import ApiError, IdentityError
from sappers.model.refusal import RefusalKind
from sappers.ports import Clock, MemberService, Refusals
from sappers.security.tls import Identity, PeerIdentity, peer_identity, server_context

CONNECTIONS_MAX = 512
# Strangers at one address must not take the room for handshakes away from everyone else.
HANDSHAKES_MAX = 32
HANDSHAKE_SECONDS = 5.0
HEADER_SECONDS = 10.0
WRITE_STALL_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 30
HEADER_BYTES_MAX = 16 * 1024
STOP_SECONDS = 2

_log = structlog.get_logger("sappers.api")


class ApiServer:
    """A member's HTTP API on one address."""

    def __init__(
        self,
        service: MemberService,
        identity: Identity,
        address: str,
        port: int,
        *,
        clock: Clock,
        refusals: Refusals,
    ) -> None:
        self._app = build_app(service, clock)
        self._identity = identity
        self._address = address
        self._port = port
        self._refusals = refusals
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on; what the system chose if 0 was asked for."""
        return self._port

    async def start(self) -> None:
        """Listen. Signals and logging stay the agent's own business.

        Raises:
            ApiError: The address cannot be listened on.
            IdentityError: A certificate file is missing or damaged.
        """
        config = uvicorn.Config(
            self._app,
            http=PeerProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        )
        config.load()
        server = _Server(config, server_context(self._identity), self._refusals)
        listener = _listen(self._address, self._port)
        self._port = listener.getsockname()[1]
        await server.startup([listener])
        self._server = server

    async def stop(self) -> None:
        """Finish the calls under way, at most `STOP_SECONDS`, then close everything."""
        if self._server is None:
            return
        server, self._server = self._server, None
        await server.shutdown()


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family, backlog=256)
    except OSError as error:
        raise ApiError(
            f"cannot listen on {address} port {port}: {error.strerror or error}",
            hint="is another agent running, or is the address not one of this machine's?",
        ) from error
    # asyncio does so only for sockets made with an explicit protocol number; without it every
    # answer on a reused connection waits 40 ms for the peer's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signals, its ticking and its own accepting."""

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext, refusals: Refusals) -> None:
        super().__init__(config)
        self.lifespan = config.lifespan_class(config)
        self._tls = tls
        self._refusals = refusals
        self._opening: dict[asyncio.Task[None], tuple[str, asyncio.Transport]] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept on the given sockets."""
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(lambda: _Gate(self), sock=listener)
            for listener in sockets or []
        ]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let calls finish, then drop what still hangs on."""
        for task in self._opening:
            task.cancel()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if not connection.transport.is_closing():  # a TLS transport that is, cannot abort
                connection.transport.abort()

    def admit(self, transport: asyncio.Transport) -> bool:
        """Shake hands in the background, unless there is no room at all.

        A member is let in however many strangers dial: of these one makes room.
        """
        address = _address(transport)[0]
        room = CONNECTIONS_MAX - len(self.server_state.connections)
        if room <= 0:
            self._refusals.count(RefusalKind.CROWD, address)
            return False
        waiting = [(task, its) for task, its in self._opening.items() if not task.done()]
        gone = who_makes_room(
            [other for _, (other, _) in waiting], address, each_max=HANDSHAKES_MAX, all_max=room
        )
        if gone is not None:
            oldest, (crowd, its) = waiting[gone]
            self._refusals.count(RefusalKind.CROWD, crowd)
            del self._opening[oldest]
            oldest.cancel()
            its.abort()
        task = asyncio.get_running_loop().create_task(self._open(transport))
        self._opening[task] = (address, transport)
        task.add_done_callback(self._opened)
        return True

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.pop(task, None)

    async def _open(self, raw: asyncio.Transport) -> None:
        early = _EarlyBytes()
        try:
            tls = await asyncio.get_running_loop().start_tls(
                raw,
                early,
                self._tls,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=HANDSHAKE_SECONDS,
            )
            assert tls is not None
            peer = peer_identity(tls.get_extra_info("ssl_object"))
        except (OSError, IdentityError) as error:  # ssl.SSLError is an OSError
            self._refusals.count(RefusalKind.HANDSHAKE, _address(raw)[0])
            _log.debug("connection refused", peer=_name(raw), reason=str(error))
            raw.abort()
            return
        if early.lost:
            return
        protocol = PeerProtocol(self.config, self.server_state, {"peer": peer})
        tls.set_protocol(protocol)
        protocol.connection_made(tls)
        if early.content:
            protocol.data_received(bytes(early.content))


class _Gate(asyncio.Protocol):
    """A fresh connection, until its handshake begins."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()  # the first bytes belong to the handshake
        if not self._server.admit(transport):
            _log.debug("connection refused", peer=_name(transport), reason="too many connections")
            transport.abort()


class _EarlyBytes(asyncio.Protocol):
    """Keeps what a peer sends together with the end of its handshake."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.content += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost = True


class PeerProtocol(H11Protocol):
    """HTTP/1.1 with a peer who is known; `request.state.peer` says who. Slow ones are cut off."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._header_deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect the first request soon."""
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Expect the rest of a request's head soon after its first byte."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._expect_headers()
        elif self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def pause_writing(self) -> None:
        """Expect the peer to read on soon."""
        super().pause_writing()
        self._write_deadline = self.loop.call_later(WRITE_STALL_SECONDS, self._cut_off, "reads")

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def shutdown(self) -> None:
        """Let a call finish; drop a peer that asks nothing, as few of them answer a farewell."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """No deadline outlives its connection."""
        super().connection_lost(exc)
        for deadline in (self._header_deadline, self._write_deadline):
            if deadline is not None:
                deadline.cancel()

    def _expect_headers(self) -> None:
        if self._header_deadline is None:
            self._header_deadline = self.loop.call_later(HEADER_SECONDS, self._cut_off, "asks")

    def _cut_off(self, what: str) -> None:
        peer: PeerIdentity = self.app_state["peer"]
        _log.debug("connection cut off", peer=peer.node_id, reason=f"it {what} too slowly")
        self.transport.abort()


def _address(transport: asyncio.BaseTransport) -> tuple[str, int]:
    name = transport.get_extra_info("peername") or ("unknown", 0)
    return name[0], name[1]


def _name(transport: asyncio.BaseTransport) -> str:
    host, port = _address(transport)
    return f"{host} port {port}"
