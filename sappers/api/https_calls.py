"""Calls to members over HTTPS with blocking sockets, for the control machine and for threads.

Invariant: a connection serves one call at a time, and only one that ended well is used again.

A library that does more takes longer to import than most commands take, and the asynchronous ones
do TLS on the event loop, in small pieces.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping

import msgspec

from sappers.security.tls import AGENT_SERVER_NAME, Identity, client_context

CONNECT_SECONDS = 3.0
# Shorter than the server's, so that no call is sent into a connection that is just being closed.
KEEP_ALIVE_SECONDS = 20.0
# Nothing that is asked for comes near it: a state of 100,000 workloads has a tenth.
ANSWER_BYTES_MAX = 256 << 20


class Peer(msgspec.Struct, frozen=True):
    """Where a member is reached.

    Attributes:
        name: What people call it.
        server_name: What its certificate must say: the member's id, or any agent's name.
    """

    name: str
    address: str
    port: int
    server_name: str = AGENT_SERVER_NAME

    def __str__(self) -> str:
        return f"{self.name} ({self.address} port {self.port})"


class Answer(msgspec.Struct, frozen=True):
    """What a member answered; names of headers are in small letters."""

    status: int
    content: bytes
    headers: Mapping[str, str] = {}

    @property
    def is_success(self) -> bool:
        """Whether the member did what was asked."""
        return 200 <= self.status <= 299


class NotConnected(OSError):
    """No connection could be made: nothing was sent."""


NO_ANSWER = (OSError, http.client.HTTPException)
"""What a call may raise."""


def reason_of(error: Exception) -> str:
    """Why a call got no answer, for a person."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


class HttpsCalls:
    """Any number of threads may use one, each has a connection of its own."""

    def __init__(self, identity: Identity) -> None:
        self._tls = client_context(identity)
        self._idle: dict[Peer, list[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._lock = threading.Lock()
        self._closed = False

    def call(
        self,
        peer: Peer,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        stall_seconds: float,
        whole_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = ANSWER_BYTES_MAX,
    ) -> Answer:
        """One call. It is made again where a kept connection turns out to be closed.

        Args:
            stall_seconds: How long each piece of it may take.
            whole_seconds: How long all pieces together may, if that has a limit.
            limit_bytes: A longer answer is an error.

        Raises:
            NotConnected: Nothing was sent.
            OSError, http.client.HTTPException: The member broke off, or answers nonsense.
        """

        def ask(connection: _Connection) -> Answer:
            with _ending(connection, whole_seconds):
                return self._ask(
                    connection, method, path, body, stall_seconds, headers or {}, limit_bytes
                )

        if (used := self._take(peer)) is not None:
            try:
                return ask(used)
            except TimeoutError:
                raise
            except NO_ANSWER:
                pass  # the member may have closed it meanwhile; asking twice does no harm
        fresh = _Connection(peer, self._tls)
        try:
            fresh.open(min(CONNECT_SECONDS, stall_seconds))
        except OSError as error:  # ssl.SSLError is one
            fresh.close()
            raise NotConnected(reason_of(error)) from error
        return ask(fresh)

    def close(self) -> None:
        """Close what is idle, and break off the calls under way: nobody waits for them."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
            busy = tuple(self._busy)
        for connection in busy:
            connection.break_off()
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _ask(
        self,
        connection: _Connection,
        method: str,
        path: str,
        body: bytes | None,
        stall_seconds: float,
        headers: Mapping[str, str],
        limit_bytes: int,
    ) -> Answer:
        whole = False
        with self._lock:
            self._busy.add(connection)
        try:
            connection.sock.settimeout(stall_seconds)
            # Whoever refuses a call does not read it to its end; the answer is there all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read(limit_bytes + 1)
            if len(content) > limit_bytes:
                raise http.client.HTTPException(f"more than {limit_bytes} bytes came")
            if answer.length:  # a read with a limit takes an early end for the end
                raise http.client.HTTPException("the answer ended early")
            whole = not answer.will_close
        finally:
            with self._lock:
                self._busy.discard(connection)
            if whole:
                self._give_back(connection)
            else:
                connection.close()
        said = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, content, said)

    def _take(self, peer: Peer) -> _Connection | None:
        """The idle connection used last, unless all have been idle too long."""
        with self._lock:
            idle = self._idle.get(peer, [])
            connection = idle.pop() if idle else None
            if connection is None or time.monotonic() < connection.good_until:
                return connection
            stale = [connection, *idle]
            idle.clear()
        for each in stale:
            each.close()
        return None

    def _give_back(self, connection: _Connection) -> None:
        connection.good_until = time.monotonic() + KEEP_ALIVE_SECONDS
        with self._lock:
            if not self._closed:
                self._idle.setdefault(connection.peer, []).append(connection)
                return
        connection.close()


@contextlib.contextmanager
def _ending(connection: _Connection, seconds: float | None) -> Iterator[None]:
    """A call that is broken off when it lasts longer than this."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, connection.break_off)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Connection(http.client.HTTPConnection):
    """One connection to a member, over TLS with certificates of the cluster."""

    def __init__(self, peer: Peer, tls: ssl.SSLContext) -> None:
        super().__init__(peer.address, peer.port)
        self.peer = peer
        self.good_until = 0.0
        self._tls = tls

    def break_off(self) -> None:
        """End the call that another thread waits for."""
        with contextlib.suppress(OSError, AttributeError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # not TLS's own, which would wait

    def open(self, timeout_seconds: float) -> None:
        """Connect and shake hands."""
        raw = socket.create_connection((self.peer.address, self.peer.port), timeout_seconds)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self._tls.wrap_socket(raw, server_hostname=self.peer.server_name)
        except BaseException:
            raw.close()
            raise
