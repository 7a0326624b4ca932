"""A link: one TLS connection to another voter, from the handshake to its end.

Invariant: nothing is taken from the other end but frames of known shapes, within their limits, and
before its greeting nothing but that.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Protocol

import msgspec
import structlog

from sappers.consensus.framing import Frames, FrameTooLong, frame
from sappers.consensus.wire import Hello, Ping, decode_peer_message

HELLO_SECONDS = 5.0
PROBED = "sappers-raft/2"  # the protocol with probes, in TLS's ALPN: older voters name none
_HELLO_LIMIT_BYTES = 4096
_FRAME_LIMIT_BYTES = 4 * 2**20  # a batch of 1 MiB, a command, and what framing adds
_UNSENT_LIMIT_BYTES = 64 * 2**20  # a peer that takes in no more than that is cut off

_log = structlog.get_logger()


class LinkOwner(Protocol):
    """Whom a link asks and tells; `transport.PeerTransport`."""

    @property
    def hello(self) -> Hello:
        """What this voter says first."""

    def objection(self, link: Link, certificate: Any) -> str | None:
        """Why the other end of a TLS connection is not welcome, or None."""

    def knows(self, peer_id: str | None) -> bool:
        """Whether this is a voter, or one of the introduced."""

    def greeted(self, link: Link) -> None:
        """The other end is of this cluster."""

    def receive(self, link: Link, message: msgspec.Struct) -> None:
        """A message of a peer that has greeted."""

    def taken(self) -> None:
        """All messages of what was read at once are taken."""

    def lost(self, link: Link, reason: str) -> None:
        """The connection ended."""


class Link(asyncio.Protocol):
    """One TLS connection to another voter, or to a stranger who is about to be refused."""

    def __init__(self, owner: LinkOwner, peer_id: str | None) -> None:
        self.peer_id = peer_id
        self.is_greeted = False
        self.tells_time = False
        self.closed = asyncio.Event()
        self.settled = asyncio.Event()  # greeted or closed
        self.heard_at = 0.0
        self._owner = owner
        self._frames = Frames(_HELLO_LIMIT_BYTES)
        self._has_given = False  # of what is read now
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
        self.tells_time = tls.selected_alpn_protocol() == PROBED
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
        if self._has_given:
            self._has_given = False
            self._owner.taken()

    def _take(self, body: bytes) -> None:
        if self._transport is None:
            return
        message = decode_peer_message(body)
        if self.is_greeted and not isinstance(message, Hello):
            if not isinstance(message, Ping):
                self._has_given = True
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
