"""Chunks of images over HTTPS, for threads.

A chunk costs an asynchronous client up to four times the processor time, and everything else that
its loop does waits meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from sappers.api.https_calls import NO_ANSWER, HttpsCalls, NotConnected, Peer, reason_of
from sappers.api.problems import error_in
from sappers.errors import ApiError, MemberUnreachable
from sappers.model.image import FRAME_BYTES_MAX
from sappers.model.member import Member
from sappers.security.tls import Identity

STALL_SECONDS = 30.0
# Who sends a byte now and then would hold one of a few slots for ever.
WHOLE_SECONDS = 120.0


class ChunkCalls:
    """Gets and puts chunks; any number of threads may use one, each has a connection of its own.

    All calls raise:
        MemberUnreachable: No connection could be made.
        ApiError: The member answered an error (its status), or broke off (status 0).
    """

    def __init__(self, identity: Identity) -> None:
        self._https = HttpsCalls(identity)

    def get(self, peer: Peer, chunk: str, *, timeout_seconds: float = STALL_SECONDS) -> bytes:
        """A chunk's frame as it came, not checked. `timeout_seconds` is for each piece of it."""
        return self._call(peer, "GET", chunk, None, timeout_seconds)

    def put(
        self, peer: Peer, chunk: str, frame: bytes, *, timeout_seconds: float = STALL_SECONDS
    ) -> None:
        """Hand a chunk's frame over; the member checks it before it answers."""
        self._call(peer, "PUT", chunk, frame, timeout_seconds)

    def close(self) -> None:
        """Close what is idle, and break off the calls under way: nobody waits for them."""
        self._https.close()

    def _call(
        self, peer: Peer, method: str, chunk: str, frame: bytes | None, stall_seconds: float
    ) -> bytes:
        try:
            answer = self._https.call(
                peer,
                method,
                f"/v1/chunks/{chunk}",
                frame,
                stall_seconds=stall_seconds,
                whole_seconds=WHOLE_SECONDS,
                limit_bytes=FRAME_BYTES_MAX,
            )
        except NotConnected as error:
            raise MemberUnreachable(f"{peer} cannot be reached: {reason_of(error)}") from error
        except NO_ANSWER as error:
            raise ApiError(f"{peer} broke off: {reason_of(error)}") from error
        if not answer.is_success:
            raise error_in(answer.status, answer.content, peer.name)
        return answer.content


class MemberChunks:
    """Satisfies `ports.ChunkSource`; the member dialled must show the certificate of its id."""

    def __init__(self, calls: ChunkCalls, is_revoked: Callable[[str], bool]) -> None:
        """`is_revoked` says whether a member's certificate is refused, by id."""
        self._calls = calls
        self._is_revoked = is_revoked

    def get(self, member: Member, chunk: str) -> bytes:
        """A chunk's frame as it came, not checked. Raises as `ChunkCalls`."""
        if self._is_revoked(member.id):
            raise MemberUnreachable(f"{member.name}: the certificate of {member.id} is revoked")
        peer = Peer(member.name, member.address, member.ports.http, member.id)
        return self._calls.get(peer, chunk)
