"""The leader keeps streams: one that cannot be kept is none of the others' trouble."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from structlog.testing import capture_logs

import sappers.agent.hub.streams as module
from sappers.agent.hub.streams import StreamKeeper
from sappers.decisions.streams import GONE_SECONDS
from sappers.errors import HubError
from sappers.model.cluster_state import ClusterState
from sappers.model.durable import StreamReading
from sappers.model.hub import ForgetServer, HubAction, HubReading
from sappers.model.member import Accelerator, Member, Ports, Resources
from sappers.model.observation import RaftRole, RaftStatus
from tests.unit.clocks import FixedClock
from tests.unit.decisions.test_streams import world
from tests.waiting import eventually

ROOM = 3


@dataclass
class Streams:
    """As many streams as there is room for."""

    found: dict[str, StreamReading] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)

    async def streams(self) -> dict[str, StreamReading]:
        return dict(self.found)

    async def keep(self, workload: str, replicas: int) -> None:
        self.tried.append(workload)
        if workload not in self.found and len(self.found) >= ROOM:
            raise HubError("no room")
        self.found[workload] = StreamReading(replicas)

    async def remove(self, workload: str) -> None:
        del self.found[workload]


@dataclass
class Log:
    current: ClusterState
    role: RaftRole = RaftRole.LEADER

    def state(self) -> ClusterState:
        return self.current

    def status(self) -> RaftStatus:
        return RaftStatus(self.role, 1, "m1", 1, 1)

    async def read_barrier(self, timeout_seconds: float) -> int:
        return 1


class Hub:
    connected = True


class Servers:
    """Nobody asks it while there is no server."""

    async def read(self, servers: Sequence[Member]) -> HubReading:
        raise AssertionError

    async def act(self, action: HubAction, servers: Sequence[Member]) -> None:
        raise AssertionError


async def test_whoever_finds_no_room_stops_nobody_and_gets_the_room_that_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    clock, streams = FixedClock(), Streams({"z": StreamReading(1), "y": StreamReading(1)})
    log = Log(msgspec.structs.replace(world({"a", "b", "z"}), cluster_id="c1"))
    keeper = StreamKeeper(streams, Servers(), lambda: (), Hub(), clock, lambda: log)
    with capture_logs() as said:
        running = asyncio.create_task(keeper.run())
        await eventually(lambda: streams.found.get("z") == StreamReading(3), 5.0)
        clock.time += module._RETRY_SECONDS
        await eventually(lambda: streams.tried.count("b") == 2, 5.0)
        assert keeper.trouble == {"b": "no room"}
        clock.time += GONE_SECONDS
        await eventually(lambda: sorted(streams.found) == ["a", "b", "z"], 5.0)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    warned = [each for each in said if each["log_level"] == "warning"]
    assert [(each["workload"], each["error"]) for each in warned] == [("b", "no room")]


async def test_where_messages_are_is_not_known_while_streams_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    read = HubReading(peers={"m1": True})
    known: list[HubReading | None] = []

    class Watched(Streams):
        async def keep(self, workload: str, replicas: int) -> None:
            known.append(keeper.reading)
            await super().keep(workload, replicas)

    class Readable(Servers):
        async def read(self, servers: Sequence[Member]) -> HubReading:
            return read

        async def act(self, action: HubAction, servers: Sequence[Member]) -> None:
            """It is of no interest here."""

    log = Log(msgspec.structs.replace(world({"a"}), cluster_id="c1"))
    servers = (Member("m1", "m1", "", Ports(), Resources(1, 512), Accelerator("tcg", ""), "0"),)
    keeper = StreamKeeper(Watched(), Readable(), lambda: servers, Hub(), FixedClock(), lambda: log)
    running = asyncio.create_task(keeper.run())
    await eventually(lambda: keeper.reading is read, 5.0)
    log.current = msgspec.structs.replace(world({"a", "b"}), cluster_id="c1")
    await eventually(lambda: len(known) == 2 and keeper.reading is read, 5.0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert known == [None, None]


async def test_a_server_that_left_is_forgotten_as_soon_as_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    read = HubReading(peers={"m1": True, "m2": True})
    acted: list[HubAction] = []

    class Readable(Servers):
        async def read(self, servers: Sequence[Member]) -> HubReading:
            return read

        async def act(self, action: HubAction, servers: Sequence[Member]) -> None:
            acted.append(action)

    state = msgspec.structs.replace(world(set()), cluster_id="c1")
    state = msgspec.structs.replace(state, electorate=("m1",), hub_servers=("m1",))
    servers = (Member("m1", "m1", "", Ports(), Resources(1, 512), Accelerator("tcg", ""), "0"),)
    clock = FixedClock()
    keeper = StreamKeeper(Streams(), Readable(), lambda: servers, Hub(), clock, lambda: Log(state))
    running = asyncio.create_task(keeper.run())
    await eventually(lambda: keeper.reading is read, 5.0)
    read = HubReading(peers={"m1": True, "m2": False})
    clock.time += module._RETRY_SECONDS
    await eventually(lambda: acted == [ForgetServer("m2")], 5.0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_stream_that_nobody_leads_is_told_of_and_keeps_nobody_from_being_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    acted: list[HubAction] = []

    class Readable(Servers):
        async def read(self, servers: Sequence[Member]) -> HubReading:
            return HubReading(
                settled=False, peers={"m1": True, "m2": False}, leaderless=frozenset({"a"})
            )

        async def act(self, action: HubAction, servers: Sequence[Member]) -> None:
            acted.append(action)

    state = msgspec.structs.replace(world({"a", "b"}), cluster_id="c1")
    state = msgspec.structs.replace(state, electorate=("m1",), hub_servers=("m1",))
    servers = (Member("m1", "m1", "", Ports(), Resources(1, 512), Accelerator("tcg", ""), "0"),)
    keeper = StreamKeeper(
        Streams(), Readable(), lambda: servers, Hub(), FixedClock(), lambda: Log(state)
    )
    running = asyncio.create_task(keeper.run())
    await eventually(lambda: acted == [ForgetServer("m2")] and keeper.trouble, 5.0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert keeper.trouble == {"a": "most of the servers that have its stream are not there"}


def test_workloads_with_the_same_trouble_are_told_of_in_the_same_words() -> None:
    found = {
        module._why(name, HubError(f"the stream of {name}: no room", hint="64 workloads at most"))
        for name in ("a", "b")
    }
    assert found == {"no room; 64 workloads at most"}
