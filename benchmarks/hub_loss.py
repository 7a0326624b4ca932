"""What dies with a hub server: how long a client hears nothing, and which messages are lost."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from benchmarks.figures import Row, Section, at_most, figure
from benchmarks.processes import hub_of
from benchmarks.rig import Rig
from sappers.errors import HubError
from sappers.hub.client import NatsHubClient
from sappers.hub.streams import NatsStreams
from sappers.model.member import Member

MESSAGES = 100_000
AT_ONCE = 64
WORKLOAD = "bench-durable"
# Connections break all the time here; that is what is measured.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
_BEAT_SECONDS = 0.005
_BEAT_SUBJECT = "sappers.app.bench.beat"
_READ_AT_ONCE = 500
_RETRY_SECONDS = 0.05
_READY_SECONDS = 60.0
_QUIET_READS = 20  # so many empty answers in a row: what is not there by then is lost


def measure(rig: Rig, messages: int = MESSAGES) -> list[Section]:
    """Kills each hub server in turn while messages are stored; all run again afterwards."""
    with rig.client() as client:
        view = rig.await_whole(client)
    servers = [one.member for one in view.members if one.member.id in view.hub_servers]
    rig.say(f"the hub: {messages} durable messages while its servers are killed")
    return [asyncio.run(_measure(rig, servers, messages))]


class _Store:
    """Stores numbered messages, each until it is acknowledged."""

    def __init__(self, streams: NatsStreams, messages: int) -> None:
        self.acknowledged: set[int] = set()
        self._streams = streams
        self._numbers = iter(range(messages))

    def has(self, count: int) -> bool:
        """Whether so many are acknowledged."""
        return len(self.acknowledged) >= count

    async def run(self) -> None:
        await asyncio.gather(*(self._work() for _ in range(AT_ONCE)))

    async def _work(self) -> None:
        for number in self._numbers:
            text = str(number)
            while number not in self.acknowledged:
                try:
                    await self._streams.store(WORKLOAD, "number", text.encode(), text)
                    self.acknowledged.add(number)
                except HubError:
                    await asyncio.sleep(_RETRY_SECONDS)


class _Beats:
    """Publishes all the time and hears itself; knows its longest silence."""

    def __init__(self, client: NatsHubClient) -> None:
        self.longest_seconds = 0.0
        self._client = client
        self._heard_at = time.monotonic()

    async def run(self) -> None:
        await self._client.subscribe(_BEAT_SUBJECT, self._heard)
        self._heard_at = time.monotonic()
        while True:
            await self._client.publish(_BEAT_SUBJECT, b"")
            await asyncio.sleep(_BEAT_SECONDS)

    async def _heard(self, _: str, __: bytes) -> None:
        now = time.monotonic()
        self.longest_seconds = max(self.longest_seconds, now - self._heard_at)
        self._heard_at = now


async def _measure(rig: Rig, servers: Sequence[Member], messages: int) -> Section:
    account = rig.hub_credentials()

    def credentials() -> str:
        return account.agent("bench")

    clients = {
        # One is connected to each server, so that somebody loses its own with every kill.
        server.name: NatsHubClient(rig.operator, credentials, name=f"bench-{server.name}")
        for server in servers
    }
    storing = NatsHubClient(rig.operator, credentials, name="bench")
    try:
        for name, client in clients.items():
            await client.connect([one for one in servers if one.name == name])
        await storing.connect(servers)
        await _until(lambda: storing.connected and all(one.connected for one in clients.values()))
        for client in clients.values():
            await client.connect(servers)
        return await _kill_each(rig, servers, clients, NatsStreams(storing), messages)
    finally:
        for client in (storing, *clients.values()):
            await client.close()


async def _kill_each(
    rig: Rig,
    servers: Sequence[Member],
    clients: dict[str, NatsHubClient],
    streams: NatsStreams,
    messages: int,
) -> Section:
    await _persist(lambda: streams.keep(WORKLOAD, len(servers)))
    beats = [_Beats(client) for client in clients.values()]
    beating = [asyncio.create_task(one.run()) for one in beats]
    store, began = _Store(streams, messages), time.monotonic()
    task = asyncio.create_task(store.run())
    for turn, server in enumerate(servers, start=1):
        enough = turn * messages // (len(servers) + 2)
        await _until(partial(store.has, enough))
        rig.say(f"kill -9 of the hub server on {server.name}")
        await asyncio.to_thread(_kill, rig, server)
    await task
    seconds = time.monotonic() - began
    for one in beating:
        one.cancel()
    read = await _read_all(streams, messages)
    await _persist(lambda: streams.remove(WORKLOAD))
    lost = len(store.acknowledged - read)
    rows = [
        at_most(f"lost of {messages} acknowledged", lost, 0, "messages", 0),
        Row("servers killed meanwhile, one after the other", str(len(servers))),
        figure("stored a second, kills included", messages / seconds, "/s", 0),
        figure(
            "longest silence of a client whose server was killed",
            max(one.longest_seconds for one in beats),
            "s",
            2,
        ),
    ]
    notes = (
        f"Stored on {len(servers)} servers with fsync before each acknowledgement, {AT_ONCE} at a "
        "time; then all are read. The agents start killed servers again. Clients publish every "
        f"{_BEAT_SECONDS * 1000:g} ms and hear themselves; at first each is at another server.",
    )
    return Section("A hub server killed", rows, notes)


def _kill(rig: Rig, server: Member) -> None:
    group = rig.lab.control_group(server.name)
    before = hub_of(group).pid
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        try:
            if hub_of(group).pid != before:
                break
        except LookupError:
            pass
        time.sleep(0.1)
    with rig.client() as client:
        rig.await_whole(client)


async def _read_all(streams: NatsStreams, messages: int) -> set[int]:
    read: set[int] = set()
    quiet = 0
    while len(read) < messages and quiet < _QUIET_READS:
        try:
            kept = await streams.fetch(WORKLOAD, _READ_AT_ONCE, 1.0)
            await asyncio.gather(
                *(streams.settle(WORKLOAD, each.token, again=False) for each in kept)
            )
        except HubError:
            kept = ()
            await asyncio.sleep(_RETRY_SECONDS)
        quiet = 0 if kept else quiet + 1
        read |= {int(each.payload) for each in kept}
    return read


async def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20 * _READY_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError("the hub does not get further")
        await asyncio.sleep(_RETRY_SECONDS)


async def _persist(call: Callable[[], Awaitable[None]]) -> None:
    """Until the hub does it: its servers elect somebody first."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            await call()
        except HubError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
