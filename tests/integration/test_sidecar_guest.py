"""A guest in service, without a machine around it: its health, its socket, its renewal."""

from __future__ import annotations

import asyncio
import json
import os
import time
import tty
from pathlib import Path

import pytest

from sappers.launchers import control
from sappers.sidecar import connect_async
from sappers.sidecar.control import ControlPort
from sappers.sidecar.guest import Guest
from sappers.sidecar.local_socket import open_listener
from sappers.sidecar.settings import HealthCheck, ImageSettings, Launch, read_configuration
from tests.integration.hubs import Hub, Inbox
from tests.waiting import eventually

CHECK = "test $(id -u) = 1000 -a $SAPPERS_WORKLOAD = shop -a ! -e ill"


class Application:
    """A process that lives."""

    pid, alive, exit_text = -1, True, ""


class Port(ControlPort):
    def signal_changes(self) -> None:
        """A terminal has no SIGIO of virtio-serial; the guest looks by itself, too."""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as PID 1 is")
async def test_a_guest_checks_listens_serves_its_socket_and_is_renewed(tmp_path: Path) -> None:
    hub, heard = Hub(tmp_path, {"a": "127.43.0.1"}), Inbox()
    folder = tmp_path / "app"
    folder.mkdir()
    for each in (folder, *folder.parents[:3]):
        each.chmod(0o755)
    member, guest_end = os.openpty()
    os.set_blocking(guest_end, False)
    tty.setraw(guest_end)

    def told(seconds: float) -> dict:
        place = hub.members["a"]
        message = control.configuration(
            *("shop-1", "shop", (f"{place.address}:{place.ports.hub}",)),
            *(hub.identities["a"].ca.read_text(), "agent.sappers"),
            *(hub.guest("shop-1", seconds=seconds), 0.2, time.time(), {}),
        )
        # On this host the hub is where it is, and not where a guest sees it.
        message["configure"]["hub"]["servers"] = [f"{place.address}:{place.ports.hub}"]
        return json.loads(json.dumps(message))

    def last() -> dict:
        pushes = [payload for subject, payload in heard.messages if subject.endswith(".health")]
        return json.loads(pushes[-1]) if pushes else {"healthy": False, "reason": "none"}

    try:
        await hub.run("a")
        agent = await hub.client("a")
        await agent.subscribe("sappers.guest.>", heard)
        settings = ImageSettings(
            "x",
            check=HealthCheck("exec", command=("/bin/sh", "-c", CHECK)),
            launch=Launch(folder=str(folder)),
        )
        listener = open_listener(path=str(tmp_path / "sidecar.sock"))
        port = Port(os.ttyname(guest_end))
        configuration = read_configuration(told(600)["configure"])
        guest = Guest(settings, configuration, port, Application(), listener)
        serving = asyncio.create_task(guest.serve())
        await eventually(lambda: last()["healthy"])
        (folder / "ill").touch()
        await eventually(lambda: "exit code 1" in last()["reason"])
        (folder / "ill").unlink()
        async with await connect_async(str(tmp_path / "sidecar.sock")) as application:
            await application.report("no room left")
            await eventually(lambda: last()["reason"] == "no room left")
            await application.report()
            await eventually(lambda: last()["healthy"])
            news = await application.subscribe("news")
            before = guest._hub._current
            os.write(member, json.dumps(told(700)).encode() + b"\n")
            await eventually(lambda: guest._hub._current not in (before, None))
            await agent.publish("sappers.app.shop.news", b"rain")
            assert (await news.next(60)).payload == b"rain"
        os.write(member, b'{"shutdown": true, "grace_seconds": 1}\n')
        assert await asyncio.wait_for(serving, 60) == 1.0
    finally:
        await hub.down()
