"""A guest's part in the hub ends with its allocation, on real nats-servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.hubs import Hub, Inbox, hears
from tests.waiting import eventually

TWO = {"a": "127.22.1.1", "b": "127.22.1.2"}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path, TWO)
    try:
        yield hub
    finally:
        await hub.down()


async def test_a_guest_is_cut_off_at_once_on_all_servers_and_nobody_else_is(hub: Hub) -> None:
    await hub.run("a", "b")
    agent, inbox = await hub.client("a"), Inbox()
    await agent.subscribe("sappers.guest.*.health", inbox)
    old = await hub.client("b", credentials=hub.guest("hello-1"))
    other = await hub.client("b", credentials=hub.guest("hello-2"))
    await hears(old, inbox, "sappers.guest.hello-1.health")
    stays = agent._connection, other._connection
    await hub.run("a", "b", refused=["hello-1"])
    await eventually(lambda: not old.connected)
    # Neither by the other server, nor with what it is given later.
    again = await hub.client("a", "b", credentials=hub.guest("hello-1"), wait=False)
    await eventually(lambda: all("authentication error" in hub.log(name) for name in TWO))
    assert not again.connected
    assert not old.connected
    await hears(other, inbox, "sappers.guest.hello-2.health")
    assert stays == (agent._connection, other._connection)
    assert [hub.supervisors[name].starts for name in TWO] == [1, 1]


async def test_who_is_refused_stays_so_over_a_restart_and_until_it_is_named_no_more(
    hub: Hub,
) -> None:
    await hub.run("a", refused=["hello-1"])
    await hub.kill("a")
    await hub.run("a", refused=["hello-1"])
    refused = await hub.client("a", credentials=hub.guest("hello-1"), wait=False)
    await eventually(lambda: "authentication error" in hub.log("a"))
    assert not refused.connected
    await hub.run("a")
    await eventually(lambda: refused.connected)
