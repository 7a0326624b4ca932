"""`python -m benchmarks.http_server ADDRESS PORT NAME`: answers each request with NAME.

A process of its own, so that it can be killed as a guest is: with all its connections, at once.
"""

from __future__ import annotations

import asyncio
import sys


class Answering(asyncio.Protocol):
    """HTTP/1.1 with keep-alive; bodies of requests are not read."""

    def __init__(self, name: str) -> None:
        body = f"{name}\n".encode()
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        self._seen = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every head that is complete."""
        *heads, self._seen = (self._seen + data).split(b"\r\n\r\n")
        self._transport.write(self._answer * len(heads))


async def serve(address: str, port: int, name: str) -> None:
    """Until it is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(name), address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
