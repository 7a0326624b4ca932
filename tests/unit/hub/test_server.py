"""Reloads: what a guest has the server log neither hides that it reloaded nor restarts it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import sappers.hub.server as module
from sappers.errors import HubError
from sappers.hub.server import UNIT
from sappers.model.actions import RunHubServer
from tests.integration.hubs import Hub

# Does on SIGHUP what is asked for, and lives on.
SERVER = """
import os, signal, sys
path, what = sys.argv[1:]
head = "[9] 2026/11/25 21:11:41.010 "
flood = head + '[ERR] 127.0.0.1:1 - cid:2 - "v1:%s" - "A/jwt:U" - Publish Violation' + chr(10)
reloaded = head + "[INF] Reloaded server configuration" + chr(10)
def log(text):
    with open(path, "a") as file:
        file.write(text)
def reload(*_):
    if what == "rotates":
        log(reloaded + flood * 1000)
        os.rename(path, path + ".1")
        log("")
    elif what == "reloads":
        log(flood * 10_000 + reloaded + flood * 10_000)
    else:
        log(flood % what)  # a guest may call itself anything
signal.signal(signal.SIGHUP, reload)
print(flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path, {"a": "127.0.0.1", "b": "127.0.0.2"})
    try:
        yield hub
    finally:
        await hub.down()


async def run_server(hub: Hub, what: str) -> asyncio.subprocess.Process:
    """One that was started before; of the hub only `a` runs."""
    log = hub.files("a").log_file
    log.parent.mkdir(parents=True)
    log.write_text("of before\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(log), what, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    hub.supervisors["a"].processes[UNIT] = process
    return process


async def reload(hub: Hub) -> None:
    await hub.servers["a"].run(RunHubServer(tuple(hub.members.values()), 1))


@pytest.mark.parametrize("what", ["reloads", "rotates"])
async def test_a_reload_is_seen_in_whatever_else_is_logged(hub: Hub, what: str) -> None:
    await run_server(hub, what)
    await reload(hub)
    assert hub.supervisors["a"].starts == 0
    assert await hub.servers["a"].running_with() == ("a", "b")


@pytest.mark.parametrize("named", ["Reloaded server configuration", "Failed to reload: x"])
async def test_a_server_that_lives_and_does_not_say_that_it_reloaded_is_asked_again(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setattr(module, "_RELOAD_SECONDS", 0.5)
    process = await run_server(hub, named)
    for _ in range(2):
        with pytest.raises(HubError, match="not said that it reloaded"):
            await reload(hub)
        assert await hub.servers["a"].running_with() == ()
    assert process.returncode is None
    assert hub.supervisors["a"].starts == 0
