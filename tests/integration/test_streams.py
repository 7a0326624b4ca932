"""Durable messages on real nats-servers: none that was acknowledged is lost, whoever dies."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import immutables
import msgspec
import pytest

from sappers.decisions.hub import plan_hub, plan_moves
from sappers.decisions.streams import plan_streams
from sappers.errors import HubError, StreamFull, TokenRefused
from sappers.hub.client import NatsHubClient
from sappers.hub.server import UNIT, find_nats_server
from sappers.hub.streams import NatsStreams
from sappers.model.actions import RunHubServer
from sappers.model.cluster_state import ClusterState
from sappers.model.durable import StreamReading
from sappers.model.hub import HubReading, member_of
from sappers.model.member import MemberState
from sappers.ports import UnitSpec
from tests.integration.hubs import Hub, Inbox, hears, kept
from tests.unit.worlds import workload
from tests.waiting import eventually

THREE = {"a": "127.41.0.1", "b": "127.41.0.2", "c": "127.41.0.3"}
FOUR = {**THREE, "d": "127.41.0.4"}
MESSAGES = 2400
AT_ONCE = 40


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path, FOUR)
    try:
        yield hub
    finally:
        await hub.down()


class Publishers:
    """Publish numbered messages, and note which were acknowledged."""

    def __init__(self, streams: NatsStreams, workload: str) -> None:
        self.acknowledged: set[int] = set()
        self._streams = streams
        self._workload = workload
        self._numbers = iter(range(MESSAGES))

    async def run(self) -> None:
        await asyncio.gather(*(self._publish() for _ in range(AT_ONCE)))

    async def _publish(self) -> None:
        for number in self._numbers:
            while number not in self.acknowledged:
                try:
                    await self._streams.store(
                        self._workload, "numbers", str(number).encode(), str(number)
                    )
                    self.acknowledged.add(number)
                except HubError:
                    await asyncio.sleep(0.1)


async def all_of(streams: NatsStreams, workload: str) -> list[int]:
    """Every message, in order; settled."""
    found: list[int] = []

    async def drained() -> bool:
        try:
            messages = await streams.fetch(workload, 100, 1.0)
            for message in messages:
                await streams.settle(workload, message.token, again=False)
                found.append(int(message.payload))
        except HubError:
            return False
        return len(set(found)) >= MESSAGES

    await eventually(drained, 200.0)
    return found


@pytest.mark.timeout(900)
async def test_no_acknowledged_message_is_lost_while_each_server_is_killed(hub: Hub) -> None:
    await hub.run("a", "b", "c")
    client = await hub.client("a", "b", "c")
    streams = NatsStreams(client)
    await kept(streams, "shop", 3)
    publishers = Publishers(streams, "shop")
    publishing = asyncio.create_task(publishers.run())
    for turn, name in enumerate(THREE, start=1):
        enough = turn * MESSAGES // 5
        await eventually(lambda enough=enough: len(publishers.acknowledged) >= enough, 120.0)
        await hub.kill(name)
        await eventually(
            lambda enough=enough: len(publishers.acknowledged) >= enough + MESSAGES // 10, 120.0
        )
        await hub.run(*THREE)
    await publishing
    assert publishers.acknowledged == set(range(MESSAGES))
    found = await all_of(streams, "shop")
    assert set(found) == set(range(MESSAGES))


async def test_one_server_keeps_messages_too_and_over_its_death(hub: Hub) -> None:
    await hub.run("a")
    client = await hub.client("a")
    streams = NatsStreams(client)
    await kept(streams, "shop", 1)
    assert (await streams.store("shop", "x.y", b"one", "1")).sequence == 1
    assert (await streams.store("shop", "x.y", b"one", "1")).duplicate
    await hub.kill("a")
    await hub.run("a")
    await eventually(lambda: client.connected)

    async def fetched() -> bool:
        try:
            found = await streams.fetch("shop", 5, 1.0)
        except HubError:
            return False
        return [(each.subject, each.payload) for each in found] == [
            ("sappers.app.shop.durable.x.y", b"one")
        ]

    await eventually(fetched)


class Moving:
    """A leader that has the hub follow the voters, as the agent does, with real servers."""

    def __init__(
        self, hub: Hub, client: NatsHubClient, workloads: Sequence[str] = ("shop",)
    ) -> None:
        self.hub, self.streams, self.servers = hub, NatsStreams(client), hub.cluster(client)
        members = immutables.Map(hub.members)
        shop = immutables.Map({name: workload(name) for name in workloads})
        self.state = ClusterState(cluster_id="c", members=members, workloads=shop)
        self.changes: list[tuple[str, ...]] = []
        self.term = 1

    def elect(self, *voters: str, dead: str = "") -> None:
        """Change the electorate."""
        members = self.state.members
        if dead:
            gone = msgspec.structs.replace(members[dead], state=MemberState.DEAD)
            members = members.set(dead, gone)
        self.state = msgspec.structs.replace(self.state, electorate=voters, members=members)

    async def to(self, *voters: str, dead: str = "") -> None:
        """Change the electorate, and return once the hub has followed."""
        self.elect(*voters, dead=dead)

        async def followed() -> bool:
            try:
                reading = await self.turn()
            except HubError as error:
                print(f"not yet: {error.message}")
                await asyncio.sleep(0.5)
                return False
            peers = sorted(map(member_of, reading.peers))
            done = set(self.state.hub_servers) == set(voters) and peers == sorted(voters)
            whole = done and reading.settled and all(reading.peers.values())
            await asyncio.sleep(0 if whole else 0.5)
            return whole

        await eventually(followed, 200.0)

    async def turn(self) -> HubReading:
        """What a leader does once."""
        servers = [self.hub.members[name] for name in self.state.hub_servers]
        reading = None
        if servers:
            await self.keep()
            reading = await self.servers.read(servers)
            for action in plan_moves(self.state, reading):
                await self.servers.act(action, servers)
        for command in plan_hub(self.state, reading):
            left = set(self.state.hub_servers) - set(command.servers)
            self.state = msgspec.structs.replace(self.state, hub_servers=command.servers)
            self.changes.append(command.servers)
            await self.run()
            for name in self._alive(left):
                await self.hub.servers[name].stop()
        return reading or HubReading()

    async def keep(self) -> None:
        """Have each stream as the state wants it now."""
        found = await self.streams.streams()
        for action in plan_streams(self.state, found, {}, 0.0).actions:
            await self.streams.keep(action.workload, action.replicas)

    async def run(self) -> None:
        """Have those servers run that the state has, where an agent lives."""
        self.term += 1
        servers = tuple(self.hub.members[name] for name in self.state.hub_servers)
        wanted = RunHubServer(servers, self.term)
        running = (
            self.hub.servers[name].run(wanted) for name in self._alive(self.state.hub_servers)
        )
        await asyncio.gather(*running)

    def _alive(self, names: Iterable[str]) -> list[str]:
        return [one for one in names if self.state.members[one].state is MemberState.ALIVE]


@pytest.mark.timeout(900)
async def test_the_hub_follows_the_voters_and_no_acknowledged_message_is_lost(hub: Hub) -> None:
    client = await hub.client("a", "b", "c", "d", wait=False)
    moving = Moving(hub, client)
    await moving.to("a", "b")
    publishers = Publishers(moving.streams, "shop")
    publishing = asyncio.create_task(publishers.run())
    # From two to three: the stream's replicas grow.
    await moving.to("a", "b", "c")
    # One leaves, another joins: first four, then three.
    await moving.to("a", "b", "d")
    assert moving.changes == [
        ("a", "b"),
        ("a", "b", "c"),
        ("a", "b", "c", "d"),
        ("a", "b", "d"),
    ]
    # One dies, and the one that left takes its place.
    await hub.kill("b")
    await moving.to("a", "c", "d", dead="b")
    await publishing
    assert publishers.acknowledged == set(range(MESSAGES))
    reading = await moving.servers.read([hub.members[name] for name in "acd"])
    assert {member_of(name) for name in reading.holders} == set("acd")
    await hub.kill("a")
    found = await all_of(moving.streams, "shop")
    assert set(found) == set(range(MESSAGES))


async def stored(streams: NatsStreams, workload: str, message_id: str) -> bool:
    """Whether a message was kept."""
    try:
        await streams.store(workload, "x", message_id.encode(), message_id)
    except HubError:
        return False
    return True


@pytest.mark.timeout(900)
async def test_streams_outlive_a_server_that_is_cut_off_while_the_next_is_on_its_way(
    hub: Hub,
) -> None:
    """For a moment there are two voters, and its server, without an agent, runs on."""
    names = [f"w{number}" for number in range(6)]
    moving = Moving(hub, await hub.client("a", "b", wait=False), names)
    await moving.to("a", "b", "c")
    for name in names:
        assert await stored(moving.streams, name, "1")
    moving.elect("a", "b", dead="c")
    moving.state = msgspec.structs.replace(moving.state, hub_servers=("a", "b"))
    await moving.keep()  # the leader is quicker than the servers
    await moving.run()
    await hub.servers["c"].stop()
    for name in names:
        await eventually(lambda name=name: stored(moving.streams, name, "2"))
    await moving.to("a", "b", "d")
    for name in names:
        messages = await moving.streams.fetch(name, 5, 5.0)
        assert [message.payload for message in messages] == [b"1", b"2"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("is_asked", [True, False], ids=["is asked", "gets company at once"])
async def test_who_is_left_of_several_has_what_all_had_and_brings_it_along(
    hub: Hub, is_asked: bool
) -> None:
    """As after `raft recover`: the others are lost for good, with their disks."""
    moving = Moving(hub, await hub.client("a", "b", "c", "d", wait=False))
    await moving.to("a", "b", "c")
    assert await stored(moving.streams, "shop", "1")
    await hub.kill("b")
    await hub.kill("c")
    hub.carry_over("a", moving.streams)
    for lost in ("b", "c"):
        moving.elect("a", dead=lost)
    moving.state = msgspec.structs.replace(moving.state, hub_servers=("a",))
    await moving.run()
    if is_asked:
        await eventually(lambda: done(moving.keep()))
        assert await moving.streams.waiting("shop") == 1
        assert await stored(moving.streams, "shop", "2")
    await moving.to("a", "d")
    await eventually(lambda: not hub.files("a").alone.exists())
    messages = await moving.streams.fetch("shop", 5, 5.0)
    assert [each.payload for each in messages] == [b"1", b"2"][: 1 + is_asked]


async def done(asked: Coroutine[Any, Any, None]) -> bool:
    """Whether the hub did it."""
    try:
        await asked
    except HubError:
        return False
    return True


async def test_a_server_that_gets_company_starts_anew_and_brings_its_messages_along(
    hub: Hub,
) -> None:
    await hub.run("a")
    client = await hub.client("a")
    streams = NatsStreams(client)
    await kept(streams, "shop", 1)
    for number in range(150):
        await streams.store("shop", f"x.{number}", b"%d" % number, str(number))
    (settled,) = await streams.fetch("shop", 1, 1.0)
    await streams.settle("shop", settled.token, again=False)
    hub.carry_over("a", streams)
    await hub.run("a", "b", term=2)
    assert hub.supervisors["a"].starts >= 2
    await eventually(lambda: client.connected)
    await kept(streams, "shop", 2)
    await eventually(lambda: not hub.files("a").alone.exists())
    await eventually(lambda: client.connected)
    found: dict[str, bytes] = {}

    async def all_found() -> bool:
        try:
            for message in await streams.fetch("shop", 50, 1.0):
                await streams.settle("shop", message.token, again=False)
                found[message.subject] = message.payload
        except HubError:
            return False
        return len(found) >= 149

    await eventually(all_found)
    assert found == {
        f"sappers.app.shop.durable.x.{number}": b"%d" % number for number in range(1, 150)
    }

    async def nothing_waits() -> bool:
        return await streams.waiting("shop") == 0

    await eventually(nothing_waits)


async def test_a_server_of_a_version_before_moves_and_brings_its_messages_along(hub: Hub) -> None:
    await hub.run("a")
    streams, files = NatsStreams(await hub.client("a")), hub.files("a")
    await kept(streams, "shop", 1)
    await streams.store("shop", "x", b"of before", "1")
    await hub.kill("a")
    # As it was left: all of it in STATE_DIR/hub, where that server's agent has it run.
    for name in ("alone", "nats-server.log"):
        (files.data / name).rename(files.hub / name)
    settings = files.hub / "nats-server.conf"
    written = (files.path / settings.name).read_text()
    settings.write_text(written.replace(str(files.data), str(files.hub)))
    shutil.rmtree(files.path)
    (files.hub / "applied.json").write_text('{"term":1,"servers":["a"],"digest":"of before"}')
    command = (str(find_nats_server()), "-c", str(settings))
    await hub.supervisors["a"].start(UnitSpec(UNIT, command, str(files.hub)))
    await hub.run("a", term=2)
    assert hub.supervisors["a"].starts == 3
    await hub.run("a", term=3)
    assert hub.supervisors["a"].starts == 3
    streams = NatsStreams(await hub.client("a"))
    await kept(streams, "shop", 1)
    (message,) = await streams.fetch("shop", 8, 5.0)
    assert message.payload == b"of before"


async def test_what_is_settled_is_forgotten_and_the_rest_comes_again(hub: Hub) -> None:
    await hub.run("a")
    streams = NatsStreams(await hub.client("a"))
    await kept(streams, "shop", 1)
    await kept(streams, "other", 1)
    for number in range(3):
        await streams.store("shop", "x", b"%d" % number, str(number))
    first, second, third = await streams.fetch("shop", 8, 1.0)
    await streams.settle("shop", first.token, again=False)
    await streams.settle("shop", second.token, again=True)
    (again,) = await streams.fetch("shop", 8, 1.0)
    assert (again.payload, again.deliveries) == (b"1", 2)
    for token in (third.token, "", "$JS.API.STREAM.DELETE.APP_shop", third.token + ".>"):
        with pytest.raises(TokenRefused, match="no message of this workload"):
            await streams.settle("other", token, again=False)
    await streams.remove("shop")
    await streams.remove("shop")
    assert set(await streams.streams()) == {"other"}


async def test_a_full_stream_refuses_what_is_new_and_keeps_what_it_has(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.hub.streams.STREAM_BYTES", 10_000)
    await hub.run("a")
    streams = NatsStreams(await hub.client("a"))
    await kept(streams, "shop", 1)
    with pytest.raises(StreamFull):
        for number in range(20):
            await streams.store("shop", "x", bytes(1000), str(number))
    found = await streams.fetch("shop", 20, 1.0)
    assert 5 <= len(found) < 10
    for message in found:
        await streams.settle("shop", message.token, again=False)
    await streams.store("shop", "x", bytes(1000), "again")


@pytest.mark.parametrize("servers", [("a",), ("a", "b", "c")])
async def test_a_stream_for_which_there_is_no_room_is_refused_plainly(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, servers: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sappers.hub.streams.STREAM_BYTES", 3 * 1024**3)
    await hub.run(*servers)
    streams = NatsStreams(await hub.client(*servers))
    await kept(streams, "first", len(servers))

    async def refused() -> bool:  # as soon as each server knows what the others keep
        try:
            await streams.keep("second", len(servers))
        except HubError as error:
            return error.hint == "each hub server has room for the streams of 1 workloads"
        await streams.remove("second")
        return False

    await eventually(refused)
    await streams.remove("first")
    await kept(streams, "second", len(servers))


async def test_a_cluster_of_before_jetstream_goes_on_without(hub: Hub) -> None:
    folder = hub.folder / "a" / "hub"
    (folder / "account.jwt").write_text(hub.account.account_jwt.splitlines()[0])
    await hub.run("a")
    client, inbox = await hub.client("a"), Inbox()
    await client.subscribe("sappers.events.>", inbox)
    await hears(client, inbox, "sappers.events.x")
    with pytest.raises(HubError):
        await NatsStreams(client).keep("shop", 1)


async def test_a_guest_cannot_reach_streams_nor_have_the_hub_speak_for_it(hub: Hub) -> None:
    await hub.run("a", "b", "c")
    agent = await hub.client("a")
    streams = NatsStreams(agent)
    await kept(streams, "g", 3)
    await streams.store("g", "x", b"precious", "1")
    guest = await hub.client("b", credentials=hub.guest("g-1"))
    raw = guest._connection
    for subject in (
        "sappers.app.g.durable.x",
        "$JS.API.CONSUMER.MSG.NEXT.APP_g.work",
        "$JS.API.STREAM.DELETE.APP_g",
        "$JS.API.STREAM.MSG.GET.APP_g",
        "$JS.API.DIRECT.GET.APP_g",
        "$JS.API.INFO",
        "$JS.ACK.APP_g.work.1.1.1.1.0",
    ):
        await raw.publish(subject, b"", reply="sappers.guest.g-1.stolen")
    stolen = Inbox()
    await guest.subscribe("sappers.guest.g-1.stolen", stolen)
    await raw.flush()
    assert (await streams.streams())["g"] == StreamReading(3)
    assert [each.payload for each in await streams.fetch("g", 8, 2.0)] == [b"precious"]
    assert stolen.messages == []


async def test_what_comes_under_another_subject_is_not_believed(hub: Hub) -> None:
    """Whoever may ask a consumer for its next message may have it delivered anywhere."""
    await hub.run("a", "b", "c")
    agent, heartbeats = await hub.client("a"), Inbox()
    streams = NatsStreams(await hub.client("b"))
    await kept(streams, "g", 3)
    await agent.subscribe("sappers.log.heartbeat", heartbeats)
    await hears(await hub.client("c"), heartbeats, "sappers.log.heartbeat")
    await streams.store("g", "x", b'{"index": 9, "term": 9, "leader_id": "evil"}', "1")
    before = list(heartbeats.messages)
    raw = streams._client._connection
    await raw.publish("$JS.API.CONSUMER.MSG.NEXT.APP_g.work", b"1", reply="sappers.log.heartbeat")
    await eventually(lambda: agent.refused == 1)
    assert heartbeats.messages == before
