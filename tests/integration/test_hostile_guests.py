"""Hostile guests against real agents and real nats-servers: refused, counted, contained, shown.

The guests here are programs with a guest's credentials, which can do all that a guest can: no image
is ever launched. `tests/e2e/test_monitor.py` has a real one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from sappers.api.wire import WantedWorkload
from sappers.config import StateFolder
from sappers.hub.client import NatsHubClient
from sappers.model import subjects
from sappers.model.allocation import Allocation
from sappers.model.guest_scope import GuestScope
from sappers.security.identity import load_identity
from tests.integration.agents import PORTS, WHOLE_SECONDS, Agents, image_at
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.timeout(900)

GUESTS = 9  # three on each member
FLOOD_SECONDS = 6.0
PUSHES_PER_SECOND = 4.0


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """One cluster for all: each test takes guests of which nothing is said yet."""
    with Agents(tmp_path_factory.mktemp("agents"), ["n1", "n2", "n3"]) as cluster:
        yield cluster


def guest_credentials(agents: Agents, guest: Allocation) -> str:
    scope = GuestScope(guest.id, guest.workload)
    return agents.credentials_of("n1").mint(scope, time.time() + 600)


async def guest_client(agents: Agents, guest: Allocation) -> NatsHubClient:
    """Connected as that guest, to the hub server of its member."""
    view = agents.view()
    assert view is not None
    member = next(m.member for m in view.members if m.member.id == guest.member_id)
    identity = load_identity(StateFolder(agents.folder / "n1").pki)
    client = NatsHubClient(identity, lambda: guest_credentials(agents, guest))
    await client.connect([member])
    await eventually(lambda: client.connected)
    return client


class Hostile:
    """A cluster with guests that are placed, and whose image never comes."""

    def __init__(self, agents: Agents) -> None:
        self.agents = agents
        wait_until("three members on one index with a hub", agents.is_whole, WHOLE_SECONDS)
        wanted = WantedWorkload(image_at(agents, "n1"), count=GUESTS, memory_mib=16)
        agents.client.put_workload("silent", wanted)
        wait_until("all guests are placed", lambda: len(self.guests()) == GUESTS)

    def guests(self) -> tuple[Allocation, ...]:
        view = self.agents.view()
        return view.allocations if view else ()

    def unnamed(self) -> list[Allocation]:
        """Those that did nothing wrong so far."""
        attention = self.attention()
        return [guest for guest in self.guests() if guest.id not in attention]

    def neighbours(self) -> tuple[Allocation, Allocation]:
        """Two guests of one member."""
        by_member: dict[str, list[Allocation]] = {}
        for guest in self.unnamed():
            by_member.setdefault(guest.member_id, []).append(guest)
        first, second = next(guests for guests in by_member.values() if len(guests) > 1)[:2]
        return first, second

    def flood(self, guest: Allocation, subject: str, payload: str) -> subprocess.Popen[str]:
        settings = {
            "address": self.agents.addresses[guest.member_id],
            "port": PORTS.hub,
            "ca_pem": (self.agents.folder / "n1" / "pki" / "ca.pem").read_text(),
            "credentials": guest_credentials(self.agents, guest),
            "subject": subject,
            "payload": payload,
            "seconds": FLOOD_SECONDS,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.flood"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(settings))
        process.stdin.close()
        return process

    async def _await_ear(self, client: NatsHubClient, guest: Allocation) -> None:
        """Return once its member hears it: that knows of a placed guest a little later."""
        figure = "sappers_health_pushes_total"
        before, pushes = self.figure(guest.member_id, figure), itertools.count()

        async def heard() -> bool:
            word = {"healthy": True, "boot_id": "before", "sequence": next(pushes)}
            await client.publish(subjects.guest_health(guest.id), json.dumps(word).encode())
            await asyncio.sleep(0.2)
            # One more may be its neighbour's, who is let in once.
            return await asyncio.to_thread(self.figure, guest.member_id, figure) > before + 1

        await eventually(heard)

    async def say(self, guest: Allocation, payloads: list[bytes], pause: float) -> None:
        """Push these, one after the other, over the hub server of the guest's member.

        Before them go others, of another boot, until one of those is heard.
        """
        client = await guest_client(self.agents, guest)
        await self._await_ear(client, guest)
        for payload in payloads:
            await client.publish(subjects.guest_health(guest.id), payload)
            await asyncio.sleep(pause)
        await client.close()

    def figure(self, member_id: str, line_begins: str) -> float:
        """One of a member's metrics."""
        text = self.agents.client_at(member_id).call("GET", "/metrics").decode()
        (line,) = (line for line in text.splitlines() if line.startswith(f"{line_begins} "))
        return float(line.split()[-1])

    def attention(self) -> str:
        view = self.agents.view()
        return "\n".join(view.attention) if view else ""


def pushes(count: int, *, first: int = 0) -> list[bytes]:
    return [
        json.dumps({"healthy": True, "boot_id": "b", "sequence": first + n}).encode()
        for n in range(count)
    ]


def test_health_that_is_said_twice_is_forged(agents: Agents) -> None:
    world = Hostile(agents)
    guest = world.unnamed()[0]
    old = pushes(3)
    newer = json.dumps({"healthy": False, "boot_id": "next", "sequence": 0}).encode()
    asyncio.run(world.say(guest, [*old, *old, newer, *pushes(2, first=9)], 0.05))
    told = f"guest {guest.id} misbehaves: 5 forged health pushes refused on {guest.member_id}"
    wait_until("status tells of it", lambda: told in world.attention())
    assert world.figure(guest.member_id, 'sappers_refused_total{kind="forged"}') == 5


@pytest.mark.parametrize(
    ("what", "payload"),
    [
        ("health", "x"),
        ("health", '{"healthy": true, "boot_id": "b", "sequence": 1}'),
        ("durable.store", "x"),
    ],
)
def test_one_guest_floods_and_its_neighbour_is_heard_as_ever(
    agents: Agents, what: str, payload: str
) -> None:
    world = Hostile(agents)
    loud, calm = world.neighbours()
    member = calm.member_id
    heard_before = world.figure(member, "sappers_health_pushes_total")
    flood = world.flood(loud, f"{subjects.guest(loud.id)}.{what}", payload)
    said = pushes(int(FLOOD_SECONDS * PUSHES_PER_SECOND))
    slowest = 0.0
    client = world.agents.client_at(member)
    speaker = threading.Thread(
        target=asyncio.run, args=(world.say(calm, said, 1 / PUSHES_PER_SECOND),)
    )
    speaker.start()
    while speaker.is_alive():
        began = time.monotonic()
        client.health()  # which gives up after 10 s
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.1)
    speaker.join()
    assert flood.stdout is not None
    sent = int(flood.stdout.read())
    assert flood.wait() == 0
    loud_heard = 1 if payload.startswith("{") else 0
    # A flood of calls comes from all servers to all members: some of a push may be lost, not many.
    enough = 1 + (len(said) if what == "health" else len(said) / 2)
    rate = 'sappers_refused_total{kind="rate"}'

    def heard() -> float:
        return world.figure(member, "sappers_health_pushes_total") - heard_before - loud_heard

    def refused() -> float:
        return sum(world.figure(name, rate) for name in agents.names)

    wait_until("the neighbour was heard", lambda: heard() >= enough)
    wait_until("the flood was refused", lambda: refused() > 0)
    print(
        f"{sent:,} messages sent in {FLOOD_SECONDS:.0f} s; {refused():,.0f} reached the agent "
        f"beyond the rate; {heard():.0f} of the neighbour's {len(said)} pushes heard; "
        f"slowest answer of the API {slowest:.2f} s"
    )
    assert sent > 5_000
    wait_until("it is named", lambda: f"guest {loud.id} misbehaves" in world.attention())
    assert calm.id not in world.attention()
    wait_until("the cluster is whole", agents.is_whole)


def test_strangers_at_the_api_are_counted_and_keep_nobody_out(agents: Agents) -> None:
    world = Hostile(agents)
    address = agents.addresses["n2"]
    hanging = [socket.create_connection((address, PORTS.http)) for _ in range(120)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began = time.monotonic()
    agents.client_at("n2").health()
    print(
        f"an operator's first call beside {len(hanging)} hung handshakes: "
        f"{time.monotonic() - began:.2f} s"
    )
    for _ in range(40):
        with socket.create_connection((address, PORTS.http)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.settimeout(30.0)
            with (
                context.wrap_socket(
                    socket.create_connection((address, PORTS.http)), server_hostname="n2"
                ) as tls,
                pytest.raises(OSError),
            ):
                tls.settimeout(30.0)
                tls.sendall(b"GET /v1/status HTTP/1.1\r\n\r\n")
                if not tls.recv(1):
                    raise ConnectionResetError
    for one in hanging:
        one.close()
    wait_until("status tells of it", lambda: "dials the agents" in world.attention())
    for words in ("connections without a certificate", "connections too many"):
        wait_until(words, lambda words=words: words in world.attention())
    handshakes = 'sappers_refused_total{kind="handshake"}'
    wait_until("all are counted", lambda: world.figure("n2", handshakes) >= 40)
