"""The monitor's own program on a real hub, with a monitor's credentials; no machine around it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sappers.model import subjects
from sappers.sidecar.hub import HubLink
from sappers.sidecar.messaging import Messaging
from sappers.sidecar.settings import HubAccess
from tests.integration.hubs import Hub, Inbox
from tests.loopback import free_port
from tests.waiting import eventually

sys.path.insert(0, str(Path(__file__).parents[2] / "unikernels" / "monitor"))

import monitor as program


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path, {"n1": "127.0.0.1"})
    try:
        await hub.run("n1")
        yield hub
    finally:
        await hub.down()


class InProcess:
    """What `sappers.sidecar.guest.Guest` gives to an application inside it."""

    def __init__(self, allocation_id: str) -> None:
        self.allocation_id = allocation_id
        self.link = HubLink()
        self.reason = "not ready"
        self.messaging = Messaging(self.link, allocation_id, "monitor", self.report)

    def report(self, reason: str = "") -> None:
        self.reason = reason

    async def publish(self, name: str, payload: bytes) -> bool:
        return await self.link.publish(f"{subjects.guest(self.allocation_id)}.{name}", payload)

    async def subscribe(self, subject, receive) -> None:
        async def arrived(message) -> None:
            await receive(message.subject, message.payload)

        await self.link.subscribe(subject, arrived)


async def scrape(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return text


async def test_it_hears_guests_and_the_cluster_and_says_what_is_wrong(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "_SETTLE_SECONDS", 0.5)
    port = free_port()
    monkeypatch.setenv("SAPPERS_PORT", str(port))
    guest = InProcess("monitor-1")
    member = hub.members["n1"]
    access = HubAccess(
        servers=(f"{member.address}:{member.ports.hub}",),
        ca_pem=hub.identities["n1"].ca.read_text(),
        tls_name="agent.sappers",
        credentials=hub.guest("monitor-1", role="monitor"),
    )
    await guest.link.use(access)
    running = asyncio.create_task(program.run(guest))
    agent, reports, edges = await hub.client("n1"), Inbox(), Inbox()
    await agent.subscribe(subjects.guest_alert("monitor-1"), reports)
    await agent.subscribe(f"{subjects.ALERTS}.>", edges)
    web = await hub.client("n1", credentials=hub.guest("web-1"))
    push = json.dumps({"healthy": True, "boot_id": "b", "sequence": 1}).encode()
    event = {"kind": "member.dead", "subject": "n9", "text": "n9 is dead: gossip says so"}

    async def both_heard() -> bool:
        await web.publish(subjects.guest_health("web-1"), push)
        await agent.publish(subjects.event("member.dead"), json.dumps(event).encode())
        await asyncio.sleep(0.1)
        text = await scrape(port)
        return 'sappers_guest_healthy{allocation="web-1"} 1' in text and 'state="dead"} 1' in text

    try:
        await eventually(both_heard)
        await eventually(lambda: edges.messages)
        await eventually(lambda: b"n9" in (reports.messages or [("", b"")])[-1][1])
        assert 'sappers_alert{kind="member.dead",subject="n9"} 1' in await scrape(port)
    finally:
        running.cancel()
        await guest.link.use(HubAccess())
    subject, word = edges.messages[0]
    assert subject == "sappers.alerts.member.dead"
    assert json.loads(word) == {
        "raised": True,
        "kind": "member.dead",
        "subject": "n9",
        "text": "n9 is dead: gossip says so",
    }
    assert guest.reason == ""
    assert "Violation" not in hub.log("n1")
