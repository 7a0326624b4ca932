"""The link to the hub, beside a server of a few lines that writes down what it reads."""

from __future__ import annotations

import asyncio

from sappers.sidecar.hub import HubLink
from sappers.sidecar.message import Message
from sappers.sidecar.settings import HubAccess


async def test_who_has_subscribed_is_heard_of_by_the_server() -> None:
    """What anybody publishes from then on comes; two connections have no order between them."""
    read: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id": "a", "max_payload": 1048576}\r\n')
        while line := await reader.readline():
            word = line.split()[0]
            read.append(word)
            if word == b"PING":
                writer.write(b"PONG\r\n")
        writer.close()

    async def receive(_: Message) -> None:
        return

    link = HubLink()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        await link.use(HubAccess((f"{host}:{port}",)))
        await asyncio.wait_for(link.up.wait(), 60)
        for _ in range(20):
            read.clear()
            subscription = await link.subscribe("news", receive)
            assert read[-1] == b"PING" and b"SUB" in read
            await subscription.close()
        await link.use(HubAccess())
