from __future__ import annotations

import asyncio
from pathlib import Path

from sappers.hub.client import NatsHubClient
from tests.identities import make_cluster_identities


class Deaf:
    """A connection whose flush swallows a cancellation, as wait_for of Python 3.11 can."""

    is_connected = True

    def __init__(self) -> None:
        self.flushing = asyncio.Event()

    async def flush(self, timeout: int) -> None:
        self.flushing.set()
        try:
            await asyncio.sleep(timeout)
        except asyncio.CancelledError:
            return

    async def close(self) -> None:
        self.is_connected = False


async def test_close_ends_although_a_cancellation_is_swallowed(tmp_path: Path) -> None:
    identity = make_cluster_identities(tmp_path, ["n1"])["n1"]
    client = NatsHubClient(identity, "credentials")
    connection = Deaf()
    client._servers, client._connected_to = ("nats://here",), "nats://here"
    client._connection = connection
    client._keeper = asyncio.create_task(client._watch())
    client._wake.set()  # it looks after the connection at once
    async with asyncio.timeout(5):
        await connection.flushing.wait()
        await client.close()
    assert not connection.is_connected
