"""A guest that floods the hub, in a process of its own: settings as JSON on stdin, count on stdout.

It speaks the protocol itself: a client library would be slower, and more polite.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import sys
import time

from sappers.sidecar.credentials import Credentials

_BATCH = 500


async def connect(settings: dict) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that the server has let in."""
    context = ssl.create_default_context(cadata=settings["ca_pem"])
    reader, writer = await asyncio.open_connection(
        settings["address"], settings["port"], ssl=context, server_hostname="agent.sappers"
    )
    information = json.loads((await reader.readline()).removeprefix(b"INFO "))
    credentials = Credentials(settings["credentials"])
    signature = base64.b64decode(credentials.sign(information["nonce"]))
    options = {
        "verbose": False,
        "pedantic": False,
        "lang": "flood",
        "version": "0",
        "jwt": credentials.jwt.decode(),
        "sig": base64.urlsafe_b64encode(signature).decode().rstrip("="),
    }
    writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
    await writer.drain()
    while not (line := await reader.readline()).startswith((b"PONG", b"-ERR")):
        if not line:
            raise ConnectionError("the hub hung up")
    if line.startswith(b"-ERR"):
        raise ConnectionError(line.decode())
    return reader, writer


async def flood(settings: dict) -> int:
    """How many messages went out before the time was over or the hub hung up."""
    _, writer = await connect(settings)
    payload = settings["payload"].encode()
    message = b"PUB %s %d\r\n%s\r\n" % (settings["subject"].encode(), len(payload), payload)
    sent, until = 0, time.monotonic() + settings["seconds"]
    with contextlib.suppress(OSError):
        while time.monotonic() < until:
            writer.write(message * _BATCH)
            await writer.drain()
            sent += _BATCH
    writer.close()
    return sent


if __name__ == "__main__":
    print(asyncio.run(flood(json.load(sys.stdin))))
