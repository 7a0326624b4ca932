"""A thousand health pushes a second through the hub: what they cost, and how many are lost.

The guests are placed and never start, as nobody has their image; who pushes in their name does it
with credentials of their own, one connection each, as their sidecars would.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import structlog

from benchmarks.figures import Section, at_most, figure
from benchmarks.processes import Process, agent_of, hub_of, raft_of
from benchmarks.random_image import NAME, random_image
from benchmarks.rig import Rig
from sappers.api.image_calls import ImageCalls
from sappers.api.operator_client import OperatorClient
from sappers.api.wire import WantedImage, WantedWorkload
from sappers.hub.client import NatsHubClient
from sappers.hub.credentials import AgentCredentials
from sappers.images.store import FolderImageStore
from sappers.model import subjects
from sappers.model.guest_scope import GuestScope
from sappers.model.member import Member
from sappers.security.signing import load_or_create_signing_key

GUESTS = 200
PUSHES_PER_SECOND = 1000
SECONDS = 30.0
WORKLOAD = "pushers"
_MEMORY_MIB = 16
_PLACED_SECONDS = 120.0
_CONNECT_SECONDS = 60.0
_ARRIVAL_SECONDS = 3.0
_VALID_SECONDS = 600.0
_METRIC = "sappers_health_pushes_total"
# What the pushing clients say is of no interest.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def measure(rig: Rig) -> list[Section]:
    """Needs a whole cluster; leaves it as it was."""
    with rig.client() as client:
        view = rig.await_whole(client)
        servers = [one.member for one in view.members if one.member.id in view.hub_servers]
        with _guests(rig, client) as guests:
            return [asyncio.run(_measure(rig, guests, servers))]


@contextmanager
def _guests(rig: Rig, client: OperatorClient) -> Iterator[Sequence[str]]:
    """Allocations whose image nobody has; gone afterwards."""
    with random_image(rig, 1 << 20) as image:
        key = load_or_create_signing_key(rig.home.image_signing_key)
        signed = FolderImageStore(rig.home.images, lambda: (key.public,)).signed(image.digest)
        assert signed is not None
        ImageCalls(client).put(image.digest, signed)
        wanted = WantedWorkload(
            WantedImage(NAME, image.digest), count=GUESTS, memory_mib=_MEMORY_MIB
        )
        client.put_workload(WORKLOAD, wanted)
        try:
            rig.say(f"placing {GUESTS} guests that never start")
            _await("all guests are placed", lambda: len(_names(client)) == GUESTS)
            yield _names(client)
        finally:
            client.delete_workload(WORKLOAD)
            _await("the guests are stopped", lambda: not _names(client))


def _names(client: OperatorClient) -> list[str]:
    view = client.view()
    return [a.id for a in view.allocations if a.workload == WORKLOAD and not a.status.is_terminal]


async def _measure(rig: Rig, guests: Sequence[str], servers: Sequence[Member]) -> Section:
    account = rig.hub_credentials()
    clients = [
        NatsHubClient(rig.operator, partial(_credentials, account, guest), name=guest)
        for guest in guests
    ]
    try:
        rig.say(f"connecting {len(clients)} guests")
        await _connect(clients, servers)
        rest = await _busy(rig, asyncio.sleep(SECONDS / 3))
        heard = await asyncio.to_thread(_heard, rig)
        pause = len(guests) / PUSHES_PER_SECOND
        rig.say(f"pushing {PUSHES_PER_SECOND} times a second for {SECONDS:.0f} s")
        began = time.monotonic()
        talk = [
            _talk(client, guest, pause, began + number * pause / len(guests))
            for number, (client, guest) in enumerate(zip(clients, guests, strict=True))
        ]
        sent: list[int] = []

        async def all_talk() -> None:
            sent.extend(await asyncio.gather(*talk))

        busy = await _busy(rig, all_talk())
        seconds = time.monotonic() - began
        await asyncio.sleep(_ARRIVAL_SECONDS)
        arrived = await asyncio.to_thread(_heard, rig) - heard
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    return _section(sum(sent), arrived, seconds, rest, busy)


async def _talk(client: NatsHubClient, guest: str, pause: float, at: float) -> int:
    """Push at these times; how often."""
    until, sequence = at + SECONDS, 0
    while at < until:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        push = {"healthy": True, "reason": "", "boot_id": "bench", "sequence": sequence}
        await client.publish(subjects.guest_health(guest), msgspec.json.encode(push))
        sequence += 1
        at += pause
    return sequence


async def _connect(clients: Sequence[NatsHubClient], servers: Sequence[Member]) -> None:
    """One after the other: two hundred handshakes at once are another benchmark."""
    deadline = time.monotonic() + _CONNECT_SECONDS
    for number, client in enumerate(clients):
        await client.connect([servers[number % len(servers)]])
        while not client.connected and time.monotonic() < deadline:  # noqa: ASYNC110 - none to await
            await asyncio.sleep(0.05)
    if not all(client.connected for client in clients):
        raise RuntimeError(f"not within {_CONNECT_SECONDS:.0f} s: all guests are connected")


def _credentials(account: AgentCredentials, guest: str) -> str:
    return account.mint(GuestScope(guest, WORKLOAD), time.time() + _VALID_SECONDS)


def _heard(rig: Rig) -> int:
    """Pushes that the agents of all members have taken so far."""
    total = 0.0
    for host in rig.endpoints():
        with rig.client(host) as client:
            for line in client.call("GET", "/metrics").decode().splitlines():
                if line.startswith(f"{_METRIC} "):
                    total += float(line.split()[1])
    return round(total)


async def _busy(rig: Rig, work: Coroutine[Any, Any, None]) -> Mapping[str, Sequence[float]]:
    """Share of a processor that each process of a kind takes meanwhile, the busiest first."""
    kinds: dict[str, list[Process]] = {}
    for host in rig.endpoints():
        group = rig.lab.control_group(host)
        for kind, find in (("agent", agent_of), ("raft", raft_of), ("nats-server", hub_of)):
            kinds.setdefault(kind, []).append(find(group))
    began = time.monotonic()
    before = {one.pid: one.cpu_seconds for found in kinds.values() for one in found}
    await work
    seconds = time.monotonic() - began
    return {
        kind: sorted(((p.cpu_seconds - before[p.pid]) / seconds for p in found), reverse=True)
        for kind, found in kinds.items()
    }


def _section(
    sent: int,
    arrived: int,
    seconds: float,
    rest: Mapping[str, Sequence[float]],
    busy: Mapping[str, Sequence[float]],
) -> Section:
    rows = [
        figure("sent", sent / seconds, "pushes/s", 0),
        at_most(f"lost of {sent:,}", float(sent - arrived), 0.0, "pushes", 0),
    ]
    for kind in busy:
        rows += [
            figure(f"{kind}: busiest, of a processor", 100 * busy[kind][0], "%"),
            figure(
                f"{kind}: all, more than at rest", 100 * (sum(busy[kind]) - sum(rest[kind])), "%"
            ),
        ]
    notes = (
        f"{GUESTS} guests with a connection and credentials of their own push five times a second "
        f"for {SECONDS:.0f} s. Each agent hears its own guests alone and parses each push. Who "
        "pushes runs on the same machine. A guest that pushed more than ten times a second would "
        "be refused.",
    )
    return Section("A thousand health pushes a second", rows, notes)


def _await(what: str, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PLACED_SECONDS
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {_PLACED_SECONDS:.0f} s: {what}")
        time.sleep(0.2)
