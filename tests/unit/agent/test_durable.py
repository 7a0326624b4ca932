"""What agents do for guests, and what they refuse them."""

from __future__ import annotations

import asyncio
import json

import pytest

from sappers.agent.hub.durable import DurableCalls
from sappers.agent.hub.refusals import Refusals
from sappers.errors import HubError, StreamFull
from sappers.hub.client import NatsHubClient
from sappers.hub.streams import NatsStreams
from sappers.model.durable import KeptMessage, StoredMessage
from sappers.model.guest_scope import GuestScope
from tests.identities import make_cluster_identities
from tests.unit.clocks import FixedClock
from tests.waiting import eventually

REPLY = "sappers.inbox.shop-1.x.1"


class Streams:
    """Streams in memory."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str, bytes, str]] = []
        self.settled: list[tuple[str, str, bool]] = []
        self.failure: HubError | None = None
        self.waits: list[float] = []
        self.something = asyncio.Event()
        self.something.set()

    async def store(self, workload, name, payload, message_id):
        if self.failure:
            raise self.failure
        self.kept.append((workload, name, payload, message_id))
        return StoredMessage(len(self.kept))

    async def fetch(self, workload, count, wait_seconds):
        self.waits.append(wait_seconds)
        if wait_seconds:
            await self.something.wait()
        return (KeptMessage(f"sappers.app.{workload}.durable.x", b"\xff", "token", 2),)

    async def settle(self, workload, token, *, again):
        self.settled.append((workload, token, again))


class World:
    def __init__(self) -> None:
        self.streams, self.refusals = Streams(), Refusals(FixedClock())
        scopes = {"shop-1": GuestScope("shop-1", "shop", ("billing",))}
        self.calls = DurableCalls(self.streams, scopes.get, self.refusals, FixedClock())

    async def ask(self, call: str, payload: bytes, guest: str = "shop-1", reply: str = REPLY):
        answer = await self.calls.answer(f"sappers.guest.{guest}.durable.{call}", payload, reply)
        return None if answer is None else json.loads(answer)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_guest_stores_for_its_own_workload_and_for_those_it_is_linked_to(world):
    for to in ("shop", "billing"):
        head = json.dumps({"name": "orders.new", "to": to, "id": "7"}).encode()
        assert "sequence" in await world.ask("store", head + b"\ntea\n\x00")
    assert world.streams.kept == [
        ("shop", "orders.new", b"tea\n\x00", "shop/7"),
        ("billing", "orders.new", b"tea\n\x00", "shop/7"),
    ]


async def test_what_waits_is_delivered_and_settled(world):
    (message,) = (await world.ask("fetch", b'{"count": 3}'))["messages"]
    assert message == {
        "subject": "sappers.app.shop.durable.x",
        "payload": "/w==",
        "token": "token",
        "deliveries": 2,
    }
    assert await world.ask("settle", b'{"token": "token", "again": true}') == {}
    assert world.streams.settled == [("shop", "token", True)]


@pytest.mark.parametrize(
    ("call", "payload", "kind"),
    [
        ("store", b'{"name": "x", "to": "other", "id": "1"}\n', "subject"),
        ("store", b'{"name": "a..b", "to": "shop", "id": "1"}\n', "subject"),
        ("store", b'{"name": "*", "to": "shop", "id": "1"}\n', "unreadable"),
        ("store", b'{"name": "x.>", "to": "shop", "id": "1"}\n', "unreadable"),
        ("store", b'{"name": "a b", "to": "shop", "id": "1"}\n', "unreadable"),
        ("store", b'{"name": "x", "to": "shop", "id": ""}\n', "unreadable"),
        ("store", b'{"name": "x\\n", "to": "shop", "id": "1"}\n', "unreadable"),
        ("store", b'{"name": "x", "to": "shop", "id": "1\\n"}\n', "unreadable"),
        ("store", b'{"name": "x", "to": "\\ud800", "id": "1"}\n', "unreadable"),
        ("store", b"\xff\xfe", "unreadable"),
        ("settle", b'{"token": "\xff"}', "unreadable"),
        ("fetch", b'{"x": ' + b"[" * 60_000, "unreadable"),
        ("fetch", b'{"count": 1000}', "unreadable"),
        ("fetch", b'{"wait_seconds": 1e9}', "unreadable"),
        ("settle", b"[]", "unreadable"),
        ("drop", b"{}", "subject"),
    ],
)
async def test_what_makes_no_sense_or_is_anothers_is_refused_and_counted(
    world, call, payload, kind
):
    assert (await world.ask(call, payload))["later"] is False
    assert world.streams.kept == []
    assert world.refusals.totals()[kind] == 1


@pytest.mark.parametrize(
    "token", ["", "$JS.API.STREAM.DELETE.APP_shop", f"$JS.ACK.APP_other.work{'.1' * 5}"]
)
async def test_a_token_that_is_anothers_is_refused_for_good_and_counted(world, tmp_path, token):
    identity = make_cluster_identities(tmp_path, ["a"])["a"]
    hub = NatsHubClient(identity, str)  # which is not connected: nobody is asked about the token
    world.calls = DurableCalls(
        NatsStreams(hub), world.calls._scope_of, world.refusals, FixedClock()
    )
    answer = await world.ask("settle", json.dumps({"token": token}).encode())
    assert answer == {"error": "that is no message of this workload", "later": False}
    assert world.refusals.totals()["subject"] == 1


async def test_few_fetches_of_a_guest_wait_and_the_others_are_answered_at_once(world):
    world.streams.something.clear()
    fetches = [asyncio.create_task(world.ask("fetch", b'{"wait_seconds": 5}')) for _ in range(10)]
    await eventually(lambda: len(world.streams.waits) == 10, 5.0)
    assert world.streams.waits == [5.0] * 4 + [0.0] * 6
    world.streams.something.set()
    assert all([(await each)["messages"] for each in fetches])
    await world.ask("fetch", b'{"wait_seconds": 5}')
    assert world.streams.waits[-1] == 5.0


@pytest.mark.parametrize("reply", ["", "sappers.log.heartbeat", "sappers.inbox.shop-2.x"])
async def test_nothing_is_said_anywhere_but_in_the_guests_own_inbox(world, reply):
    assert await world.ask("fetch", b"{}", reply=reply) is None
    assert world.refusals.totals()["subject"] == 1


async def test_a_guest_that_should_not_be_is_told_to_ask_again(world):
    answer = await world.ask("fetch", b"{}", guest="gone-1", reply="sappers.inbox.gone-1.x")
    assert answer["later"] is True


async def test_trouble_passes_and_a_full_stream_does_not(world):
    head = b'{"name": "x", "to": "shop", "id": "1"}\n'
    world.streams.failure = HubError("nats: timeout")
    assert (await world.ask("store", head))["later"] is True
    world.streams.failure = StreamFull("maximum bytes exceeded")
    assert (await world.ask("store", head))["later"] is False
