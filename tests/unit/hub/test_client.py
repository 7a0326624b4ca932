from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from nats.aio.msg import Msg

import sappers.hub.client as module
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
    client = NatsHubClient(identity, lambda: "credentials")
    connection = Deaf()
    client._servers, client._connected_to = ("nats://here",), "nats://here"
    client._connection = connection
    client._keeper = asyncio.create_task(client._watch())
    client._wake.set()  # it looks after the connection at once
    async with asyncio.timeout(60):
        await connection.flushing.wait()
        await client.close()
    assert not connection.is_connected


class Wire:
    """A connection that notes what is said."""

    is_connected = True

    def __init__(self) -> None:
        self.said: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, payload: bytes) -> None:
        self.said.append((subject, payload))


async def test_of_a_burst_only_so_many_begin_and_the_rest_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWERED_AT_ONCE", 6)
    client = NatsHubClient(make_cluster_identities(tmp_path, ["n1"])["n1"], lambda: "credentials")
    go_on = asyncio.Event()

    async def answer(subject: str, payload: bytes, reply: str) -> bytes:
        await go_on.wait()
        return b"done"

    def busy(reply: str, under_way: int) -> bytes:
        return b"%d" % under_way

    await client.serve("loud", "", answer, at_once=4, busy=busy)
    await client.serve("calm", "", answer, at_once=4, busy=busy)
    client._connection = wire = Wire()
    loud, calm = client._subscriptions

    async def ask(wanted: module._Wanted, times: int) -> list[bytes]:
        wire.said.clear()
        for _ in range(times):
            await wanted.deliver(Msg(None, wanted.subject, f"inbox.{wanted.subject}", b""))
        return [payload for _, payload in wire.said]

    assert await ask(loud, 10) == [b"4"] * 6
    assert await ask(calm, 3) == [b"2"]
    wire.said.clear()
    go_on.set()
    await asyncio.wait(client._answering)
    assert sorted(wire.said) == [("inbox.calm", b"done")] * 2 + [("inbox.loud", b"done")] * 4
    assert await ask(loud, 4) == []
    for task in client._answering:
        task.cancel()
