"""A guest at the hub beyond what its credentials allow: refused, and counted where it belongs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sappers.agent.clock import SystemClock
from sappers.agent.hub.hub_watch import HubWatch
from sappers.agent.hub.refusals import Refusals
from sappers.hub.credentials import AgentCredentials
from sappers.hub.violations import ViolationLog
from sappers.model import subjects
from tests.integration.flood import connect
from tests.integration.hubs import Hub, Inbox, hears
from tests.waiting import eventually

TWO = {"n1": "127.0.0.1", "n2": "127.0.0.2"}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path, TWO)
    try:
        await hub.run(*TWO)
        yield hub
    finally:
        await hub.down()


class Watcher:
    """What each member's agent does about its server's refusals."""

    def __init__(self, hub: Hub, name: str, credentials: AgentCredentials) -> None:
        self.hub, self.name, self.credentials = hub, name, credentials
        self.refusals = Refusals(SystemClock())
        self.listens = asyncio.Event()

    async def watch(self) -> None:
        client = await self.hub.client(self.name)
        watch = HubWatch(
            hub=client,
            violations=ViolationLog(self.hub.files(self.name).log_file),
            holder=self.credentials.holder,
            refusals=self.refusals,
        )
        await client.subscribe(subjects.REFUSED, watch.receive)
        self.listens.set()
        while True:
            await watch.tell()
            await asyncio.sleep(0.1)

    def counted(self) -> dict[str, int]:
        return {one.subject: one.count for one in self.refusals.snapshot()}


async def test_the_member_that_made_the_credentials_counts_what_another_ones_server_refused(
    hub: Hub,
) -> None:
    beside_the_server = Watcher(hub, "n1", AgentCredentials(hub.account.account_seed))
    home = Watcher(hub, "n2", hub.credentials)
    watching = [asyncio.create_task(one.watch()) for one in (beside_the_server, home)]
    try:
        agent, heard, refused = await hub.client("n2"), Inbox(), Inbox()
        await agent.subscribe("sappers.guest.>", heard)
        await agent.subscribe(subjects.REFUSED, refused)
        await home.listens.wait()
        await hears(await hub.client("n1"), refused, subjects.REFUSED)
        server = hub.members["n1"]
        settings = {
            "address": server.address,
            "port": server.ports.hub,
            "ca_pem": hub.identities["n1"].ca.read_text(),
            "credentials": hub.guest("hello-1"),
        }
        reader, writer = await connect(settings)
        for number in range(5):
            writer.write(b"PUB sappers.guest.other-1.health 1\r\nx\r\n")
            writer.write(b"SUB sappers.guest.other-1.> %d\r\n" % number)
        await writer.drain()
        await eventually(lambda: home.counted().get("hello-1", 0) >= 10)

        def says_its_own() -> bool:  # again and again: interest needs a moment to spread
            writer.write(b"PUB sappers.guest.hello-1.health 1\r\ny\r\n")
            return bool(heard.messages)

        await eventually(says_its_own)
        assert set(heard.messages) == {("sappers.guest.hello-1.health", b"y")}
        assert beside_the_server.counted() == {}
        for number in range(50):
            writer.write(b"SUB sappers.guest.hello-1.x%d %d\r\n" % (number, 100 + number))
        await writer.drain()
        await eventually(lambda: home.counted()["hello-1"] > 10)
        await says(reader, b"maximum subscriptions exceeded")
        reader, writer = await connect(settings)
        writer.write(b"PUB sappers.guest.hello-1.health 100000\r\n" + b"x" * 100_000 + b"\r\n")
        await says(reader, b"maximum payload")
        await hears(agent, heard, "sappers.guest.hello-1.health")  # the hub goes on for all others
    finally:
        for task in watching:
            task.cancel()


async def says(reader: asyncio.StreamReader, words: bytes) -> None:
    """Return once the server has said so."""
    async with asyncio.timeout(60.0):
        while words not in (line := await reader.readline()).lower():
            assert line, "the server hung up"
