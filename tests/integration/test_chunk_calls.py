"""Chunks over real TLS sockets: connections that are used again, lost, or refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sappers.agent.clock import SystemClock
from sappers.agent.hub.refusals import Refusals
from sappers.api import chunk_calls, client
from sappers.api.chunk_calls import ChunkCalls, MemberChunks
from sappers.api.client import HttpPeerClient
from sappers.api.https_calls import Peer
from sappers.api.server import PeerProtocol, _listen, _Server
from sappers.errors import ApiError, MemberUnreachable
from sappers.model.image import FRAME_BYTES_MAX
from sappers.model.member import Ports
from sappers.security.authority import create_authority
from sappers.security.tls import server_context
from tests.identities import make_cluster_identities, make_operator_identity
from tests.unit.worlds import member


class Shelf:
    """A served member that keeps any chunk; its connections can be cut."""

    def __init__(self, folder: Path) -> None:
        authority = create_authority("test")
        self.identity = make_cluster_identities(folder, ["n1"], authority=authority)["n1"]
        self.calls = ChunkCalls(make_operator_identity(folder, authority))
        self.frames: dict[str, bytes] = {}
        self.pause_seconds = 0.0
        self.peer = Peer("n1", "127.0.0.1", 0, "n1")

    async def start(self) -> None:
        app = Starlette(
            routes=[
                Route("/v1/chunks/{chunk}", self._get, methods=["GET"]),
                Route("/v1/chunks/{chunk}", self._put, methods=["PUT"]),
            ]
        )
        config = uvicorn.Config(
            app, http=PeerProtocol, ws="none", lifespan="off", log_config=None, access_log=False
        )
        config.load()
        self.server = _Server(config, server_context(self.identity), Refusals(SystemClock()))
        listener = _listen("127.0.0.1", self.peer.port)
        self.peer = Peer("n1", "127.0.0.1", listener.getsockname()[1], "n1")
        await self.server.startup([listener])

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    async def _get(self, request: Request) -> Response:
        frame = self.frames.get(request.path_params["chunk"])
        if frame is None:
            return Response("no such chunk", 404)
        return StreamingResponse(self._drops(frame)) if self.pause_seconds else Response(frame)

    async def _drops(self, frame: bytes) -> AsyncIterator[bytes]:
        for byte in frame:
            yield bytes((byte,))
            await asyncio.sleep(self.pause_seconds)

    async def _put(self, request: Request) -> Response:
        self.frames[request.path_params["chunk"]] = await request.body()
        return Response(b"{}")


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    one = Shelf(tmp_path)
    await one.start()
    yield one
    one.calls.close()
    await one.server.shutdown()


async def test_chunks_go_and_come_over_few_connections(shelf: Shelf) -> None:
    frames = {f"{number:064x}": os.urandom(300_000) for number in range(12)}
    put = (asyncio.to_thread(shelf.calls.put, shelf.peer, *item) for item in frames.items())
    await asyncio.gather(*put)
    for chunk, frame in frames.items():
        assert await asyncio.to_thread(shelf.calls.get, shelf.peer, chunk) == frame
    assert shelf.frames == frames
    assert 1 <= shelf.connections <= 12


async def test_a_connection_that_the_member_closed_is_replaced(shelf: Shelf) -> None:
    await asyncio.to_thread(shelf.calls.put, shelf.peer, "a", b"frame")
    for connection in list(shelf.server.server_state.connections):
        connection.transport.abort()
    assert await asyncio.to_thread(shelf.calls.get, shelf.peer, "a") == b"frame"


async def test_a_members_error_is_told_with_its_status(shelf: Shelf) -> None:
    with pytest.raises(ApiError, match="no such chunk") as caught:
        await asyncio.to_thread(shelf.calls.get, shelf.peer, "a")
    assert caught.value.status == 404
    assert shelf.connections == 1  # good for the next call
    await asyncio.to_thread(shelf.calls.put, shelf.peer, "a", b"")


async def test_an_answer_longer_than_a_chunk_is_refused(shelf: Shelf) -> None:
    shelf.frames["a"] = b"x" * (FRAME_BYTES_MAX + 1)
    with pytest.raises(ApiError, match=f"broke off: more than {FRAME_BYTES_MAX} bytes"):
        await asyncio.to_thread(shelf.calls.get, shelf.peer, "a")


async def test_who_sends_a_byte_now_and_then_is_left(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_calls, "WHOLE_SECONDS", 0.5)
    shelf.frames["a"] = b"x" * 1000
    shelf.pause_seconds = 0.01
    with pytest.raises(ApiError, match="broke off"):
        await asyncio.to_thread(shelf.calls.get, shelf.peer, "a")


async def test_any_answer_has_a_limit(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_BYTES_MAX", 1000)
    shelf.frames |= {"a": b"x" * 1000, "b": b"x" * 1001}
    calls = HttpPeerClient(shelf.identity)
    ports = Ports(http=shelf.peer.port)
    at = msgspec.structs.replace(member(1), id="n1", address=shelf.peer.address, ports=ports)
    assert await calls.call(at, "GET", "/v1/chunks/a", timeout_seconds=10.0) == b"x" * 1000
    with pytest.raises(ApiError, match="broke off: more than 1000 bytes"):
        await calls.call(at, "GET", "/v1/chunks/b", timeout_seconds=10.0)
    await calls.close()


def test_chunks_are_not_asked_of_who_is_revoked(shelf: Shelf) -> None:
    chunks = MemberChunks(shelf.calls, lambda member_id: member_id == "m2")
    with pytest.raises(MemberUnreachable, match="m2 is revoked"):
        chunks.get(member(2), "a")


async def test_a_member_that_is_not_there_or_another_is_unreachable(shelf: Shelf) -> None:
    other = Peer("n2", "127.0.0.1", shelf.peer.port, "n2")
    with pytest.raises(MemberUnreachable, match=r"n2 .* cannot be reached: .*certificate"):
        await asyncio.to_thread(shelf.calls.get, other, "a")
    await shelf.server.shutdown()
    with pytest.raises(MemberUnreachable, match="cannot be reached: Connection refused"):
        await asyncio.to_thread(shelf.calls.get, shelf.peer, "a")
