"""What guests say through a real hub: over the sidecar's socket and inside its process."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sappers.agent.clock import SystemClock
from sappers.agent.hub.durable import DurableCalls
from sappers.agent.hub.refusals import Refusals
from sappers.hub.streams import NatsStreams
from sappers.model import subjects
from sappers.model.guest_scope import GuestScope
from sappers.sidecar import MessagingError, connect, connect_async
from sappers.sidecar.hub import HubLink
from sappers.sidecar.local_server import LocalServer
from sappers.sidecar.local_socket import open_listener
from sappers.sidecar.messaging import Messaging
from sappers.sidecar.settings import HubAccess
from tests.integration.hubs import Hub, Inbox
from tests.integration.test_streams import kept
from tests.waiting import eventually

ADDRESS = "127.42.0.1"


class Guest:
    """A sidecar's link to the hub and its socket, without a machine around it."""

    def __init__(self, hub: Hub, name: str, *links: str) -> None:
        self.hub, self.name, self.links = hub, name, links
        self.link = HubLink()
        self.words: list[str] = []
        workload = name.rpartition("-")[0]
        self.messaging = Messaging(self.link, name, workload, self.words.append)
        self.path = str(hub.folder / f"{name}.sock")
        listener = open_listener(path=self.path)
        assert listener is not None
        self.server = LocalServer(self.messaging, listener)

    async def start(self) -> Guest:
        await self.use()
        self.server.start()
        await asyncio.wait_for(self.link.up.wait(), 60)
        return self

    async def use(self, seconds: float = 600.0, member_id: str = "a") -> None:
        member = self.hub.members["a"]
        server = f"{member.address}:{member.ports.hub}"
        await self.link.use(
            HubAccess(
                (server,),
                self.hub.identities["a"].ca.read_text(),
                "agent.sappers",
                self.hub.guest(self.name, *self.links, seconds=seconds),
                {server: member_id},
            )
        )

    async def stop(self) -> None:
        await self.server.close()
        await self.link.use(HubAccess())


class Cluster:
    """A hub of one, an agent that serves durable calls, and guests."""

    def __init__(self, folder: Path) -> None:
        self.hub = Hub(folder, {"a": ADDRESS})
        self.guests: list[Guest] = []
        self.scopes: dict[str, GuestScope] = {}
        self.refusals = Refusals(SystemClock())

    async def start(self) -> None:
        await self.hub.run("a")
        self.agent = await self.hub.client("a")
        self.streams = NatsStreams(self.agent)
        durable = DurableCalls(self.streams, self.scopes.get, self.refusals, SystemClock())
        self.calls = durable.served_by(self.agent)

    async def guest(self, name: str, *links: str) -> Guest:
        self.scopes[name] = GuestScope(name, name.rpartition("-")[0], links)
        await self.calls.attend({one: (subjects.guest_durable(one, "*"),) for one in self.scopes})
        guest = Guest(self.hub, name, *links)
        self.guests.append(guest)
        return await guest.start()

    async def stop(self) -> None:
        for guest in self.guests:
            await guest.stop()
        await self.hub.down()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


async def test_a_member_in_the_place_of_another_is_no_server(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = Guest(cluster.hub, "shop-1")
    cluster.guests.append(guest)
    await guest.use(member_id="b")
    guest.server.start()
    said = ""
    while "hub-unreachable" not in said:
        await asyncio.sleep(0.05)
        said += capsys.readouterr().err
    assert "Hostname mismatch" in said
    assert not guest.link.connected
    await guest.use()
    await asyncio.wait_for(guest.link.up.wait(), 60)


async def test_the_blocking_client_publishes_asks_answers_and_keeps(cluster: Cluster) -> None:
    shop, billing = await cluster.guest("shop-1", "billing"), await cluster.guest("billing-1")
    await kept(cluster.streams, "shop", 1)
    await kept(cluster.streams, "billing", 1)

    def bill() -> str:
        with connect(billing.path) as sidecar:
            prices = sidecar.subscribe("price", queue="clerks")
            ready.set()
            message = prices.next(60)
            sidecar.reply(message, b"17 for " + message.payload)
            (kept_for_us,) = sidecar.fetch(timeout_seconds=60)
            sidecar.settle(kept_for_us)
            assert sidecar.fetch(timeout_seconds=0.2) == []
            with ThreadPoolExecutor(1) as pool:
                left = pool.submit(list, prices)
                prices.close()
                assert left.result(60) == []
            return kept_for_us.payload.decode()

    def buy() -> tuple[str, int]:
        with connect(shop.path) as sidecar:
            assert (sidecar.allocation_id, sidecar.workload) == ("shop-1", "shop")
            answer = sidecar.request("sappers.app.billing.price", b"tea", timeout_seconds=60)
            stored = sidecar.publish_durable("orders.new", b"order", to="billing", message_id="7")
            assert sidecar.publish_durable(
                "orders.new", b"x", to="billing", message_id="7"
            ).duplicate
            sidecar.report("out of tea")
            return answer.payload.decode(), stored.sequence

    import threading

    ready = threading.Event()
    billed = asyncio.create_task(asyncio.to_thread(bill))
    assert await asyncio.to_thread(ready.wait, 60)
    assert await asyncio.to_thread(buy) == ("17 for tea", 1)
    assert await billed == "order"
    assert shop.words == ["out of tea"]


async def test_the_asyncio_client_does_the_same(cluster: Cluster) -> None:
    shop = await cluster.guest("shop-1")
    await kept(cluster.streams, "shop", 1)
    async with await connect_async(shop.path) as one, await connect_async(shop.path) as other:
        heard = await one.subscribe("news.>")
        asked = await one.subscribe("sum")
        await other.publish("news.today", b"rain")
        message = await heard.next(60)
        assert (message.subject, message.payload) == ("sappers.app.shop.news.today", b"rain")
        asking = asyncio.create_task(other.request("sum", b"1+1"))
        await one.reply(await asked.next(60), b"2")
        assert (await asking).payload == b"2"
        await other.publish_durable("jobs", b"sweep")
        async for job in one.consume():
            assert (job.payload, job.deliveries) == (b"sweep", 1)
            await one.settle(job)
            break
        waiting = asyncio.create_task(heard.next())
        await asyncio.sleep(0)  # it waits
        await heard.close()
        await other.publish("news.today", b"sun")
        with pytest.raises(MessagingError, match="closed"):
            await waiting
        assert [message async for message in heard] == []


async def test_of_a_queue_group_one_hears_each_message(cluster: Cluster) -> None:
    guests = [await cluster.guest(f"shop-{number}") for number in range(3)]
    queues = [await guest.messaging.subscribe("jobs", queue="workers") for guest in guests]
    everyone = [await guest.messaging.subscribe("jobs") for guest in guests]
    for number in range(30):
        await guests[0].messaging.publish("jobs", b"%d" % number)
    for subscription in everyone:
        assert [(await subscription.next(60)).payload for _ in range(30)] == [
            b"%d" % number for number in range(30)
        ]
    taken = sorted(
        int(queue._take().payload) for queue in queues for _ in range(len(queue._waiting))
    )
    assert taken == list(range(30))


async def test_a_guest_reaches_only_what_it_is_linked_to(cluster: Cluster) -> None:
    shop, other = await cluster.guest("shop-1", "billing"), await cluster.guest("other-1")
    billing = await cluster.guest("billing-1")
    await kept(cluster.streams, "billing", 1)
    everything, agent = Inbox(), cluster.agent
    await agent.subscribe("sappers.>", everything)
    told = await shop.messaging.subscribe("sappers.app.billing.events.>")
    overheard = [
        await shop.messaging.subscribe(subject)
        for subject in ("sappers.app.billing.price", "sappers.guest.*.health", "sappers.inbox.>")
    ]
    for guest in (shop, other):
        for subject in (
            "sappers.app.billing.price",  # the shop may say this
            "sappers.app.billing.events.paid",
            "sappers.app.billing.durable.x",
            "sappers.guest.billing-1.health",
            "sappers.alerts.fire",
            "sappers.log.heartbeat",
        ):
            await guest.messaging.publish(subject, guest.name.encode())
    await billing.messaging.publish("events.paid", b"yes")
    assert (await told.next(60)).payload == b"yes"
    # What came before it on the same way has been heard by then, too.
    await eventually(lambda: any(payload == b"yes" for _, payload in everything.messages))
    await eventually(lambda: any(payload == b"shop-1" for _, payload in everything.messages))
    said = [(subject, payload) for subject, payload in everything.messages if payload != b"yes"]
    assert said == [("sappers.app.billing.price", b"shop-1")]
    assert not any(each._waiting for each in overheard)
    assert (await shop.messaging.publish_durable("x", b"1", to="billing")).sequence == 1
    with pytest.raises(MessagingError, match="other is not linked to billing"):
        await other.messaging.publish_durable("x", b"1", to="billing")
    for name in ("a b", "*", ">", "a..b"):
        with pytest.raises(MessagingError):
            await shop.messaging.publish_durable(name, b"1")
    assert cluster.refusals.totals()["subject"] == 1


async def test_an_agent_answers_into_the_inbox_of_who_asked_and_nowhere_else(
    cluster: Cluster,
) -> None:
    shop = await cluster.guest("shop-1")
    heard = Inbox()
    await cluster.agent.subscribe("sappers.log.heartbeat", heard)
    await cluster.agent.subscribe("sappers.inbox.>", heard)
    for reply in ("sappers.log.heartbeat", "sappers.inbox.other-1.x", ""):
        await shop.link.publish("sappers.guest.shop-1.durable.fetch", b"{}", reply)
    await eventually(lambda: cluster.refusals.totals()["subject"] == 3)
    assert heard.messages == []


async def test_new_credentials_lose_no_message_and_bring_none_twice(cluster: Cluster) -> None:
    shop, other = await cluster.guest("shop-1"), await cluster.guest("shop-2")
    heard = await shop.messaging.subscribe("numbers")
    first = shop.link._current
    sent, going = 0, True

    async def publish() -> None:
        nonlocal sent
        while going:
            await other.messaging.publish("numbers", b"%d" % sent)
            sent += 1
            await asyncio.sleep(0.001)

    publishing = asyncio.create_task(publish())
    for number in range(3):
        before = shop.link._current
        await shop.use(seconds=500.0 + number)  # those of the same second are the same
        await eventually(lambda before=before: shop.link._current not in (before, None))
        await asyncio.sleep(0.2)
    going = False
    await publishing
    found = [int((await heard.next(60)).payload) for _ in range(sent)]
    assert sorted(found) == list(range(sent))
    assert shop.link.connected
    assert first is not shop.link._current
    await eventually(lambda: first.client.is_closed)


async def test_credentials_end_and_renewed_ones_go_on(cluster: Cluster) -> None:
    shop, over = await cluster.guest("shop-1"), await cluster.guest("over-1")
    last = over.link._current
    await over.use(seconds=5.0)
    await shop.use(seconds=5.0)
    await eventually(lambda: over.link._current not in (last, None))
    await shop.use()
    await eventually(lambda: not over.link.connected)
    await eventually(lambda: shop.link.connected)
    with pytest.raises(MessagingError, match="cannot be reached"):
        await over.messaging.publish("x")
    await asyncio.sleep(1.0)  # it goes on trying, in vain
    assert not over.link.connected


GARBAGE = (
    b"\n",
    b"nonsense\n",
    b"[1]\n",
    b"{}\n",
    b'{"op": "publish"}\n',
    b'{"op": "publish", "subject": "a b"}\n',
    b'{"op": "publish", "subject": "x", "payload": "%%"}\n',
    b'{"op": "publish", "subject": 7}\n',
    b'{"op": "publish", "subject": "x", "id": "7"}\n',
    b'{"op": "subscribe", "subject": "x"}\n',
    b'{"op": "unsubscribe", "id": 9}\n',
    b'{"op": "request", "subject": "x", "timeout_seconds": 1e9}\n',
    b'{"op": "request", "subject": "x", "timeout_seconds": NaN}\n',
    b'{"op": "fetch", "count": Infinity}\n',
    b'{"op": "settle", "token": []}\n',
    b"[" * 100_000 + b"\n",
    b"\xff\xfe\x00\n",
)


async def test_garbage_is_refused_with_a_line_and_counted(cluster: Cluster) -> None:
    shop = await cluster.guest("shop-1")
    reader, writer = await asyncio.open_unix_connection(shop.path)
    assert json.loads(await reader.readline())["op"] == "hello"
    for line in GARBAGE:
        writer.write(line)
        answer = json.loads(await asyncio.wait_for(reader.readline(), 60))
        assert answer["op"] == "error" and answer["reason"], line
    writer.write(b'{"op": "report", "id": 1}\n')
    assert json.loads(await reader.readline()) == {"op": "ok", "id": 1}
    assert shop.server.refused == len(GARBAGE)
    writer.write(b"x" * 200_000)
    assert b"has more than" in await reader.readline()
    assert await reader.read() == b""
    writer.close()


async def test_a_connection_that_talks_only_nonsense_is_closed(cluster: Cluster) -> None:
    shop = await cluster.guest("shop-1")
    reader, writer = await asyncio.open_unix_connection(shop.path)
    with contextlib.suppress(OSError):
        writer.write(b"x\n" * 10_000)
        await writer.drain()
    assert (await reader.read()).count(b"error") == 64
    assert shop.link.connected
    writer.close()


async def test_connections_subscriptions_and_calls_are_bounded(cluster: Cluster) -> None:
    shop = await cluster.guest("shop-1")
    clients = [await connect_async(shop.path) for _ in range(16)]
    with pytest.raises(MessagingError, match="too many connections"):
        await connect_async(shop.path)
    await clients[0].subscribe("x0")
    opened = await asyncio.gather(
        *(clients[number % 16].subscribe(f"x{number}") for number in range(1, 40)),
        return_exceptions=True,
    )
    refused = [str(each) for each in opened if isinstance(each, MessagingError)]
    assert refused == ["more than 24 subscriptions"] * 16
    asked = [
        asyncio.create_task(clients[0].request("x0", b"?", timeout_seconds=2.0)) for _ in range(40)
    ]
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert sum("calls at once" in str(each) for each in done) == 24
    with pytest.raises(MessagingError, match="nobody listens"):
        await clients[0].request("nowhere", b"?")
    with pytest.raises(MessagingError, match="more than 65536 bytes"):
        await clients[0].publish("x", bytes(70_000))
    for client in clients:
        await client.close()
    await eventually(lambda: shop.server.subscriptions == 0)
    again = await connect_async(shop.path)
    await again.subscribe("y")
    await again.close()


async def test_who_reads_too_slowly_loses_the_oldest_and_holds_up_nobody(cluster: Cluster) -> None:
    shop = await cluster.guest("shop-1")
    reader, writer = await asyncio.open_unix_connection(shop.path)
    writer.write(b'{"op": "subscribe", "id": 1, "subject": "flood"}\n')
    await reader.readline()
    await reader.readline()
    slow = next(iter(shop.server._clients.values())).subscriptions[1][0]
    async with await connect_async(shop.path) as other:
        quick = await other.subscribe("quick")
        for _ in range(200):
            await other.publish("flood", bytes(32_000))
        await other.publish("quick", b"here")
        assert (await quick.next(60)).payload == b"here"
    await eventually(lambda: slow.dropped > 0)
    assert slow._waiting_bytes <= 512 * 1024
    writer.close()
