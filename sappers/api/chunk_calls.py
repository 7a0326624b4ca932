"""Chunks of images over HTTPS, with blocking sockets, for threads.

Invariant: a connection serves one call at a time, and only one that ended well is used again.

The asynchronous clients do TLS on the event loop, in small pieces: a chunk costs them up to four
times the processor time, and everything else that the loop does waits meanwhile.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time

import msgspec

from sappers.api.client import reason_of
from sappers.api.problems import error_in
from sappers.errors import ApiError, MemberUnreachable
from sappers.model.image import CHUNK_BYTES
from sappers.model.member import Member
from sappers.security.tls import AGENT_SERVER_NAME, Identity, client_context

# Content that does not compress becomes a little longer than it was.
FRAME_BYTES_MAX = CHUNK_BYTES + 64 * 1024
CONNECT_SECONDS = 3.0
STALL_SECONDS = 30.0
# Shorter than the server's, so that no call is sent into a connection that is just being closed.
KEEP_ALIVE_SECONDS = 20.0


class ChunkPeer(msgspec.Struct, frozen=True):
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


class ChunkCalls:
    """Gets and puts chunks; any number of threads may use one, each has a connection of its own.

    All calls raise:
        MemberUnreachable: No connection could be made.
        ApiError: The member answered an error (its status), or broke off (status 0).
    """

    def __init__(self, identity: Identity) -> None:
        self._tls = client_context(identity)
        self._idle: dict[ChunkPeer, list[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._lock = threading.Lock()
        self._closed = False

    def get(self, peer: ChunkPeer, chunk: str, *, timeout_seconds: float = STALL_SECONDS) -> bytes:
        """A chunk's frame as it came, not checked. `timeout_seconds` is for each piece of it."""
        return self._call(peer, "GET", chunk, None, timeout_seconds)

    def put(
        self, peer: ChunkPeer, chunk: str, frame: bytes, *, timeout_seconds: float = STALL_SECONDS
    ) -> None:
        """Hand a chunk's frame over; the member checks it before it answers."""
        self._call(peer, "PUT", chunk, frame, timeout_seconds)

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

    def _call(
        self, peer: ChunkPeer, method: str, chunk: str, frame: bytes | None, stall_seconds: float
    ) -> bytes:
        used = self._take(peer)
        if used is not None:
            try:
                return self._ask(used, method, chunk, frame, stall_seconds)
            except (OSError, http.client.HTTPException):
                pass  # the member may have closed it meanwhile; asking twice does no harm
        fresh = _Connection(peer, self._tls)
        try:
            fresh.connect()
        except OSError as error:  # ssl.SSLError is one
            fresh.close()
            raise MemberUnreachable(f"{peer} cannot be reached: {reason_of(error)}") from error
        try:
            return self._ask(fresh, method, chunk, frame, stall_seconds)
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{peer} broke off: {reason_of(error)}") from error

    def _ask(
        self,
        connection: _Connection,
        method: str,
        chunk: str,
        frame: bytes | None,
        stall_seconds: float,
    ) -> bytes:
        whole = False
        with self._lock:
            self._busy.add(connection)
        try:
            connection.sock.settimeout(stall_seconds)
            connection.request(method, f"/v1/chunks/{chunk}", body=frame)
            answer = connection.getresponse()
            content = answer.read(FRAME_BYTES_MAX + 1)
            if len(content) > FRAME_BYTES_MAX:
                raise http.client.HTTPException("more than a chunk came")
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
        if not 200 <= answer.status <= 299:
            raise error_in(answer.status, content, connection.peer.name)
        return content

    def _take(self, peer: ChunkPeer) -> _Connection | None:
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


class MemberChunks:
    """Satisfies `ports.ChunkSource`; the member dialled must show the certificate of its id."""

    def __init__(self, calls: ChunkCalls) -> None:
        self._calls = calls

    def get(self, member: Member, chunk: str) -> bytes:
        """A chunk's frame as it came, not checked. Raises as `ChunkCalls`."""
        peer = ChunkPeer(member.name, member.address, member.ports.http, member.id)
        return self._calls.get(peer, chunk)


class _Connection(http.client.HTTPConnection):
    """One connection to a member, over TLS with certificates of the cluster."""

    def __init__(self, peer: ChunkPeer, tls: ssl.SSLContext) -> None:
        super().__init__(peer.address, peer.port)
        self.peer = peer
        self.good_until = 0.0
        self._tls = tls

    def break_off(self) -> None:
        """End the call that another thread waits for."""
        with contextlib.suppress(OSError, AttributeError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # not TLS's own, which would wait

    def connect(self) -> None:
        """Connect and shake hands."""
        raw = socket.create_connection((self.peer.address, self.peer.port), CONNECT_SECONDS)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self._tls.wrap_socket(raw, server_hostname=self.peer.server_name)
        except BaseException:
            raw.close()
            raise
