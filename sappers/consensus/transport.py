"""The links between voters: mutual TLS 1.3, msgpack frames, one connection a pair.

Invariant: no message is taken from anyone who has not shown a certificate of a voter of this very
cluster, or of one of the `introduced`; what a certificate's owner sends is decoded into known
shapes only.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

import msgspec
import structlog
from pysyncobj.transport import Transport

from sappers.config import RaftSettings
from sappers.consensus.framing import frame
from sappers.consensus.link import HELLO_SECONDS, PROBED, Link
from sappers.consensus.listener import SpareDescriptor, listen_on
from sappers.consensus.parties import PeerNode
from sappers.consensus.wire import Hello, InstallSnapshot, Ping
from sappers.decisions.strangers import who_makes_room
from sappers.errors import IdentityError, LogDamaged
from sappers.security.tls import Identity, client_context, peer_identity, server_context

# Connections whose other end is not known yet: the journal needs some descriptors, too.
_STRANGERS_MAX = 256
_STRANGERS_OF_AN_ADDRESS_MAX = 32
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
        received: Called after the messages that came together, to make the node tick.
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
        self._peers: dict[str, PeerNode] = {}
        self._introduced: dict[str, PeerNode] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self.is_revoked: Callable[[str], bool] = lambda _: False
        self.farewell: Callable[[str], dict[str, Any] | None] = lambda _: None
        self._addresses = addresses
        self._settings = settings
        self._received = received
        self._failed = failed
        self._server_context = server_context(identity)
        self._client_context = client_context(identity)
        for context in (self._server_context, self._client_context):
            context.set_alpn_protocols([PROBED])
        self._links: dict[str, Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers: dict[asyncio.Task[None], str] = {}
        self._listener: socket.socket | None = None
        self._spare = SpareDescriptor()

    async def start(self, listen: tuple[str, int]) -> None:
        """Listen, and dial for ever.

        Raises:
            SappersError: The address cannot be bound.
        """
        self._listener = listen_on(listen)
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
        for gone in set(self._introduced) - set(others):
            del self._introduced[gone]
            self._part(gone)
        known = {*self._peers, self._hello.node_id}
        self._introduced |= {one: PeerNode(one) for one in others if one not in known}
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

    def tells_time(self, node: Any) -> bool:
        """Whether a voter is connected whose version answers probes."""
        link = self._links.get(node.id)
        return link is not None and link.tells_time

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
                if not link.tells_time:  # nor does an older version know of that
                    message.pop("term", None)
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
        if self._is_in_use(link):
            assert link.peer_id is not None
            del self._links[link.peer_id]
            _log.info("disconnected", peer=link.peer_id, reason=reason)
            self._onNodeDisconnected(PeerNode(link.peer_id))
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

    def taken(self) -> None:
        """All messages of what was read at once are with Raft."""
        self._received()

    # Accepting, dialling, pings

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, (address, *_) = await loop.sock_accept(listener)
            except OSError as error:
                _log.warning("cannot accept a connection", reason=str(error))
                self._spare.shed(listener)
                await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
            else:
                self._make_room(address)
                task = self._begin(self._welcome(connection))
                self._strangers[task] = address
                task.add_done_callback(lambda task: self._strangers.pop(task, None))
                await asyncio.sleep(0)  # accepting may not wait at all: let it begin, others end

    def _make_room(self, newcomer: str) -> None:
        gone = who_makes_room(
            list(self._strangers.values()),
            newcomer,
            each_max=_STRANGERS_OF_AN_ADDRESS_MAX,
            all_max=_STRANGERS_MAX,
        )
        if gone is not None:
            task = list(self._strangers)[gone]
            del self._strangers[task]
            task.cancel()

    async def _welcome(self, connection: socket.socket) -> None:
        """Learn who it is; whoever does not say so in time, or makes room, is a stranger.

        So is who has no vote, until it is gone: it was told so, and has nothing to wait for.
        """
        loop = asyncio.get_running_loop()
        link: Link | None = None
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                _, link = await loop.connect_accepted_socket(
                    lambda: Link(self, None), connection, ssl=self._server_context
                )
                await link.settled.wait()
                if not self._is_in_use(link):
                    await link.closed.wait()
        except OSError:  # no TLS, no certificate, no answer
            pass
        finally:
            if link is None:
                connection.close()
            elif not self._is_in_use(link):
                link.abort("said nothing, or does not go")

    def _is_in_use(self, link: Link) -> bool:
        return link.peer_id is not None and self._links.get(link.peer_id) is link

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
            except (OSError, ValueError, OverflowError) as error:  # TimeoutError is an OSError
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
