"""The links between voters: mutual TLS 1.3, msgpack frames, one connection a pair.

Invariant: no message is taken from anyone who has not shown a certificate of a voter of this very
cluster, or of one of the `introduced`; what a certificate's owner sends is decoded into known
shapes only.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

import msgspec
import structlog
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from sappers.config import RaftSettings
from sappers.consensus.wire import (
    Frames,
    FrameTooLong,
    Hello,
    InstallSnapshot,
    Ping,
    decode_peer_message,
    frame,
)
from sappers.errors import IdentityError, LogDamaged, SappersError
from sappers.security.tls import Identity, client_context, peer_identity, server_context

HELLO_SECONDS = 5.0
_HELLO_LIMIT_BYTES = 4096
_FRAME_LIMIT_BYTES = 4 * 2**20  # a batch of 1 MiB, a command, and what framing adds
_UNSENT_LIMIT_BYTES = 64 * 2**20  # a peer that takes in no more than that is cut off
_STRANGERS_MAX = 256
_ACCEPT_PAUSE_SECONDS = 0.5
_UNWANTED_SECONDS = 1.0
_UNDIALLED_SECONDS = 3.0  # without a link, until the one with the larger id dials, too
_ROOM_BYTES = 4 * 2**20  # below it a link takes another part of a snapshot
_PING = frame(Ping())

_log = structlog.get_logger()


class PeerTransport(Transport):  # type: ignore[misc] # the library has no types
    """Connects this voter with the others. Of each pair the one with the smaller id dials.

    Args:
        addresses: Node id to `ip:port`; looked at before each dial, so it may change.
        received: Called after each message, to make the node tick soon.
        failed: Called with an error after which this process must end.
    """

    def __init__(
        self,
        me_id: str,
        cluster_id: str,
        addresses: Mapping[str, str],
        identity: Identity,
        settings: RaftSettings,
        received: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__(None, None, [])
        self._hello = Hello(cluster_id, me_id)
        self._peers: dict[str, Node] = {}
        self._introduced: dict[str, Node] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self.is_revoked: Callable[[str], bool] = lambda _: False
        self.farewell: Callable[[str], dict[str, Any] | None] = lambda _: None
        self._addresses = addresses
        self._settings = settings
        self._received = received
        self._failed = failed
        self._server_context = server_context(identity)
        self._client_context = client_context(identity)
        self._links: dict[str, Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._spare = SpareDescriptor()

    async def start(self, listen: tuple[str, int]) -> None:
        """Listen, and dial for ever.

        Raises:
            SappersError: The address cannot be bound.
        """
        self._listener = _listen(listen)
        self._begin(self._accept(self._listener))
        self._begin(self._keep_alive())
        self._dial_all()

    def addNode(self, node: Any) -> None:  # noqa: N802
        """Connect with one more voter (pysyncobj's name)."""
        self._peers[node.id] = node
        self._introduced.pop(node.id, None)
        self._dial_all()

    def dropNode(self, node: Any) -> None:  # noqa: N802
        """Part from a voter once it has what it was sent (pysyncobj's name)."""
        self._peers.pop(node.id, None)
        self._part(node.id)

    def introduce(self, others: Collection[str]) -> None:
        """Listen to just these, too; only a voter that knows no leader needs that."""
        for gone in set(self._introduced) - set(others) - set(self._links):
            del self._introduced[gone]
            self._part(gone)
        me = self._hello.node_id
        self._introduced |= {one: Node(one) for one in others if one not in self._peers | {me: me}}
        self._dial_all()

    def _part(self, peer_id: str) -> None:
        if task := self._dialling.pop(peer_id, None):
            task.cancel()
        if link := self._links.get(peer_id):
            link.finish("it has no vote any more")

    def _dial_all(self) -> None:
        if self._listener is None:
            return
        for peer_id in (self._peers | self._introduced).keys() - self._dialling.keys():
            self._dialling[peer_id] = self._begin(self._dial(peer_id))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        """Send one message to one voter if it is connected (pysyncobj's name)."""
        link = self._links.get(node.id)
        if link is None:
            return False
        if "serialized" in message:
            message = {**message, "type": "install_snapshot"}
        return link.write(frame(message))

    def has_room(self, node: Any) -> bool:
        """Whether little is still to be sent to a voter."""
        link = self._links.get(node.id)
        return link is not None and link.unsent_bytes < _ROOM_BYTES

    def destroy(self) -> None:
        """Close everything (pysyncobj's name)."""
        for task in self._tasks:
            task.cancel()
        if self._listener is not None:
            self._listener.close()
        self._spare.close()
        for link in list(self._links.values()):
            link.abort("this voter stops")

    # What links ask and tell

    def objection(self, link: Link, certificate: Any) -> str | None:
        """Why the other end of a TLS connection is not welcome, or None."""
        try:
            who = peer_identity(certificate)
        except IdentityError as error:
            return error.message
        if who.role != "agent" or who.node_id == self._hello.node_id:
            return f"{who.role} {who.node_id} has no vote in this cluster"
        if self.is_revoked(who.node_id):
            return f"the certificate of {who.node_id} is revoked"
        is_larger = who.node_id > self._hello.node_id
        if link.peer_id is None and is_larger and who.node_id in self._links:
            return f"{who.node_id} dialled, and is connected already"
        if link.peer_id not in (None, who.node_id):
            return f"{who.node_id} answered in the place of {link.peer_id}"
        link.peer_id = who.node_id
        return None

    @property
    def hello(self) -> Hello:
        """What this voter says first."""
        return self._hello

    def greeted(self, link: Link) -> None:
        """The other end is of this cluster; an older connection of it is dead."""
        assert link.peer_id is not None
        node = self._node_of(link.peer_id)
        if node is None:
            if message := self.farewell(link.peer_id):
                link.write(frame(self._hello) + frame(message))
            link.finish("it has no vote in this cluster")
            return
        if older := self._links.pop(link.peer_id, None):
            older.abort("the peer has connected anew")
            self._onNodeDisconnected(node)
        self._links[link.peer_id] = link
        _log.info("connected", peer=link.peer_id)
        self._onNodeConnected(node)

    def knows(self, peer_id: str | None) -> bool:
        """Whether this is a voter, or one of the introduced."""
        return peer_id in self._peers or peer_id in self._introduced

    def _node_of(self, peer_id: str) -> Any:
        return self._peers.get(peer_id) or self._introduced.get(peer_id)

    def lost(self, link: Link, reason: str) -> None:
        """A connection ended."""
        if link.peer_id is not None and self._links.get(link.peer_id) is link:
            del self._links[link.peer_id]
            _log.info("disconnected", peer=link.peer_id, reason=reason)
            self._onNodeDisconnected(Node(link.peer_id))
        elif not link.is_greeted:
            _log.info("connection refused or failed", peer=link.peer_id, reason=reason)

    def receive(self, link: Link, message: msgspec.Struct) -> None:
        """Hand a message to Raft."""
        assert link.peer_id is not None
        node = self._node_of(link.peer_id)
        if node is None:
            return
        known = msgspec.structs.asdict(message)
        kind = "append_entries" if isinstance(message, InstallSnapshot) else None
        known["type"] = kind or message.__struct_config__.tag
        try:
            self._onMessageReceived(node, known)
        except (OSError, LogDamaged) as error:
            self._failed(error)
        self._received()

    # Accepting, dialling, pings

    async def _accept(self, listener: socket.socket) -> None:
        """Strangers may hold so many descriptors at a time, and no more: the journal needs some."""
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(_STRANGERS_MAX)
        while True:
            await room.acquire()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                room.release()
                _log.warning("cannot accept a connection", reason=str(error))
                self._spare.shed(listener)
                await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
            else:
                self._begin(self._welcome(connection, room))

    async def _welcome(self, connection: socket.socket, room: asyncio.Semaphore) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                _, link = await loop.connect_accepted_socket(
                    lambda: Link(self, None), connection, ssl=self._server_context
                )
                await link.settled.wait()
        except OSError:  # no TLS, no certificate, no answer: a stranger
            connection.close()
        finally:
            room.release()

    async def _dial(self, peer_id: str) -> None:
        """Keep a link to a voter.

        Of each pair the one with the smaller id dials. The other one does, too, after a while
        without a link: a voter that was removed meanwhile is told so by whom it dials.
        """
        loop = asyncio.get_running_loop()
        problem = ""
        waits = self._hello.node_id > peer_id
        while True:
            if self.is_revoked(peer_id):
                await asyncio.sleep(_UNDIALLED_SECONDS)
                continue
            if waits:
                await asyncio.sleep(_UNDIALLED_SECONDS)
                if peer_id in self._links:
                    continue
            host, _, port = self._addresses.get(peer_id, "").rpartition(":")
            try:
                if not host:
                    raise ConnectionError("its address is not known yet")
                async with asyncio.timeout(self._settings.connection_timeout_seconds):
                    _, link = await loop.create_connection(
                        lambda: Link(self, peer_id),
                        host,
                        int(port),
                        ssl=self._client_context,
                        server_hostname=peer_id,
                    )
                await link.closed.wait()
                problem = ""
                if not link.is_greeted:  # it is there, and wants no link: there is no hurry
                    await asyncio.sleep(_UNWANTED_SECONDS)
            except (OSError, ValueError) as error:  # TimeoutError and SSLError are OSErrors
                if problem != (problem := f"{host}:{port}: {error or 'no answer in time'}"):
                    _log.info("cannot reach a voter", peer=peer_id, reason=problem)
            await asyncio.sleep(self._settings.connection_retry_seconds)

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.ping_seconds)
            silent_since = loop.time() - self._settings.connection_timeout_seconds
            for link in list(self._links.values()):
                if link.heard_at < silent_since:
                    link.abort("silent for too long")
                elif link.peer_id is not None and self.is_revoked(link.peer_id):
                    link.abort("its certificate is revoked")
                else:
                    link.write(_PING)


class SpareDescriptor:
    """A descriptor kept for the day when there is no other: to turn a caller away with it.

    A caller that is left waiting in the listener's queue would keep the event loop awake for ever,
    and learn nothing.
    """

    def __init__(self) -> None:
        self._descriptor = _open_nothing()

    def shed(self, listener: socket.socket) -> bool:
        """Turn one caller away; whether there was one, and a descriptor to do it with."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        try:
            listener.accept()[0].close()
        except OSError:
            return False
        else:
            return True
        finally:
            self._descriptor = _open_nothing()

    def close(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open_nothing() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        listener = socket.create_server(address, family=family)
    except OSError as error:
        raise SappersError(
            f"cannot listen for other voters on {address[0]}:{address[1]}: {error.strerror}",
            hint=f"see who has the port: ss -ltnp 'sport = {address[1]}'",
        ) from error
    listener.setblocking(False)  # noqa: FBT003
    return listener


class Link(asyncio.Protocol):
    """One TLS connection to another voter, or to a stranger who is about to be refused."""

    def __init__(self, owner: PeerTransport, peer_id: str | None) -> None:
        self.peer_id = peer_id
        self.is_greeted = False
        self.closed = asyncio.Event()
        self.settled = asyncio.Event()  # greeted or closed
        self.heard_at = 0.0
        self._owner = owner
        self._frames = Frames(_HELLO_LIMIT_BYTES)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._reason = "the other end closed"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is through; who is it?"""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        if objection := self._owner.objection(self, tls):
            self.abort(objection)
            return
        if self._owner.knows(self.peer_id):  # who is not known has the first word
            self.write(frame(self._owner.hello))
        self._loop.call_later(HELLO_SECONDS, self._expect_greeted)

    def _expect_greeted(self) -> None:
        if not self.is_greeted:
            self.abort("said nothing")

    def data_received(self, data: bytes) -> None:
        """Take frames; anything that is not one ends the connection."""
        self.heard_at = self._loop.time()
        try:
            for body in self._frames.feed(data):
                self._take(body)
        except (FrameTooLong, msgspec.DecodeError) as error:
            self.abort(f"garbage: {error}")
        except (ValueError, KeyError, TypeError, IndexError) as error:
            _log.exception("a message made no sense", peer=self.peer_id)
            self.abort(f"nonsense: {error!r}")

    def _take(self, body: bytes) -> None:
        if self._transport is None:
            return
        message = decode_peer_message(body)
        if self.is_greeted and not isinstance(message, Hello):
            if not isinstance(message, Ping):
                self._owner.receive(self, message)
        elif message == Hello(self._owner.hello.cluster_id, self.peer_id or ""):
            self.is_greeted = True
            self.settled.set()
            self._frames.limit_bytes = _FRAME_LIMIT_BYTES
            self._owner.greeted(self)
        else:
            self.abort("it is of another cluster")

    @property
    def unsent_bytes(self) -> int:
        """What the other end has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def write(self, data: bytes) -> bool:
        """Queue bytes; False when the connection is gone or the other end does not read."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self.unsent_bytes > _UNSENT_LIMIT_BYTES:
            self.abort("it does not read what it is sent")
            return False
        self._transport.write(data)
        return True

    def abort(self, reason: str) -> None:
        """Close at once."""
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    def finish(self, reason: str) -> None:
        """Close once everything is sent; what still comes in is not taken."""
        self._reason = reason
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        self.closed.set()
        self.settled.set()
        self._owner.lost(self, str(exc) if exc else self._reason)
