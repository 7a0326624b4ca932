"""Calls to other members, from inside an agent. One client a process; connections are reused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import msgspec

from sappers.api.https_calls import KEEP_ALIVE_SECONDS, reason_of
from sappers.api.problems import error_in
from sappers.errors import ApiError, MemberUnreachable
from sappers.model.member import Member
from sappers.security.tls import Identity, client_context

CONNECT_SECONDS = 2.0
ANSWER_BYTES_MAX = 512 << 20  # the largest are states


def base_url(address: str, port: int) -> str:
    """The URL of a member's API; brackets around IPv6."""
    return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"


class HttpPeerClient:
    """Satisfies `ports.PeerClient`; the member dialled must show the certificate of its id.

    Attributes:
        is_revoked: Whether a member's certificate is refused, by id.
    """

    def __init__(self, identity: Identity) -> None:
        self.is_revoked: Callable[[str], bool] = lambda _: False
        self._client = httpx.AsyncClient(
            verify=client_context(identity),
            limits=httpx.Limits(max_connections=200, keepalive_expiry=KEEP_ALIVE_SECONDS),
            trust_env=False,
        )

    async def call(
        self, member: Member, method: str, path: str, *, body: Any = None, timeout_seconds: float
    ) -> bytes:
        """One call; the answer's body. `body` is encoded as JSON unless it is bytes.

        Raises:
            MemberUnreachable: No connection could be made, or its certificate is revoked; the call
                was not sent.
            ApiError: The member answered an error (its status) or did not answer (status 0).
        """
        if self.is_revoked(member.id):
            raise MemberUnreachable(f"{member.name}: the certificate of {member.id} is revoked")
        content = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        try:
            async with asyncio.timeout(timeout_seconds):
                status, answer = await self._ask(
                    self._request(member, method, path, content, timeout_seconds)
                )
        except (httpx.HTTPError, TimeoutError) as error:
            raise _no_answer(member, error, timeout_seconds) from error
        if not 200 <= status <= 299:
            raise error_in(status, answer, member.name)
        return answer

    async def _ask(self, request: httpx.Request) -> tuple[int, bytes]:
        """Status and body, of which no more is read than may be."""
        answer = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > ANSWER_BYTES_MAX:
                    raise httpx.RemoteProtocolError(f"more than {ANSWER_BYTES_MAX} bytes came")
        finally:
            await answer.aclose()
        return answer.status_code, bytes(body)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _request(
        self, member: Member, method: str, path: str, content: bytes | None, timeout_seconds: float
    ) -> httpx.Request:
        connect = min(CONNECT_SECONDS, timeout_seconds)
        return self._client.build_request(
            method,
            base_url(member.address, member.ports.http) + path,
            content=content,
            timeout=httpx.Timeout(timeout_seconds, connect=connect),
            extensions={"sni_hostname": member.id},
        )


def _no_answer(member: Member, error: Exception, timeout_seconds: float) -> ApiError:
    where = f"{member.name} ({member.address} port {member.ports.http})"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        in_time = not isinstance(error, httpx.TimeoutException)
        why = reason_of(error if in_time else TimeoutError())
        return MemberUnreachable(f"{where} cannot be reached: {why}")
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return ApiError(f"{where} did not answer within {timeout_seconds:g} s")
    return ApiError(f"{where} broke off: {reason_of(error)}")
