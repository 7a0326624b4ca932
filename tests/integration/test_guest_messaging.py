"""A real micro-VM whose application speaks to the hub through the sidecar's socket."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from sappers.agent.clock import SystemClock
from sappers.agent.hub.durable import DurableCalls
from sappers.agent.hub.refusals import Refusals
from sappers.hub.streams import NatsStreams
from sappers.model import subjects
from sappers.model.guest_scope import GuestScope
from tests.integration.guests import GuestHost, build_image
from tests.integration.hubs import Inbox
from tests.integration.test_streams import kept
from tests.waiting import eventually

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("lz4"), reason="needs lz4"),
    pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt"),
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86"),
]

DEFINITION = """
kinds = ["microvm"]
[application]
script = "app.py"
files = ["check.py"]
[health]
check = "exec"
command = ["/usr/bin/python3.11", "/app/check.pyc"]
"""
CHECK = "import os\nassert os.getuid() == 1000 and os.environ['SAPPERS_WORKLOAD'] == 'app'\n"
APPLICATION = """
import time
from sappers.sidecar import connect

def nobody_elses(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__

while True:
    try:
        hub = connect()
        break
    except OSError:
        time.sleep(0.1)
orders = hub.subscribe("orders")
hub.publish("up", nobody_elses("/proc/1/environ").encode())
for message in hub.consume():
    asked = hub.request("price", message.payload, timeout_seconds=30)
    stored = hub.publish_durable("done", b"kept")
    hub.publish("answer", message.payload + b" " + asked.payload + b" %d" % stored.sequence)
    hub.settle(message)
    break
for order in orders:
    if order.payload == b"be ill":
        hub.report("feels ill")
    elif order.payload == b"be well":
        hub.report()
    hub.reply(order, b"done")
"""


async def test_an_application_publishes_asks_consumes_and_says_how_it_is(tmp_path: Path) -> None:
    definitions = tmp_path / "definitions"
    (definitions / "app").mkdir(parents=True)
    (definitions / "app" / "image.toml").write_text(DEFINITION)
    (definitions / "app" / "app.py").write_text(APPLICATION)
    (definitions / "app" / "check.py").write_text(CHECK)
    host = GuestHost(tmp_path / "host")
    host.launcher = host.make_launcher(credentials_seconds=30.0)
    await host.start()
    looking: asyncio.Task[None] | None = None
    try:
        guest = host.allocation("app", build_image(host.store, "app", definitions))
        agent = await host.hub.client("n1")
        streams, scope = NatsStreams(agent), GuestScope(guest.id, "app")
        refusals = Refusals(SystemClock())
        durable = DurableCalls(streams, {guest.id: scope}.get, refusals, SystemClock())
        calls = durable.served_by(agent)
        await calls.attend({guest.id: (subjects.guest_durable(guest.id, "*"),)})
        await kept(streams, "app", 1)
        await streams.store("app", "jobs", b"tea", "1")
        said = Inbox()
        await agent.subscribe("sappers.app.app.>", said)
        await agent.serve("sappers.app.app.price", "", price)
        await host.launch(guest)
        # As the agent does, over and over: credentials are renewed while a slow machine boots it.
        looking = asyncio.create_task(look_on(host))
        await host.healthy(guest)
        try:
            await eventually(lambda: ("sappers.app.app.answer", b"tea 17 2") in said.messages)
        except TimeoutError:
            log = await host.launcher.serial_log(guest.id, 4000)
            raise AssertionError(f"{said.messages}; it printed:\n{log}") from None
        assert ("sappers.app.app.up", b"PermissionError") in said.messages
        told = time.monotonic()
        await agent.ask("sappers.app.app.orders", b"be ill", 60.0)
        await eventually(lambda: host.pushes[guest.id][-1]["reason"] == "feels ill")
        await agent.ask("sappers.app.app.orders", b"be well", 60.0)
        await host.healthy(guest, since=told)

        first = host.launcher._folder(guest.id).record().credentials_until

        await eventually(lambda: time.time() > first + 1)
        assert host.launcher._folder(guest.id).record().credentials_until > time.time()
        await agent.ask("sappers.app.app.orders", b"be well", 60.0)
    finally:
        if looking is not None:
            looking.cancel()
        await host.stop()


async def look_on(host: GuestHost) -> None:
    while True:
        await host.launcher.observe()
        await asyncio.sleep(0.5)


async def price(subject: str, payload: bytes, reply: str) -> bytes:
    return b"17"
