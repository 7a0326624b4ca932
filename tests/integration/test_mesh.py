"""The mesh with a real Consul and its real proxies: who is linked gets through, nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import immutables
import msgspec
import pytest

from sappers.agent import mesh, registration
from sappers.agent.clock import SystemClock
from sappers.agent.mesh import Mesh
from sappers.agent.registration import Registration
from sappers.consul.calls import ConsulCalls
from sappers.consul.intentions import ConsulIntentions
from sappers.consul.proxies import UNIT_PREFIX, ConnectProxies, Host
from sappers.consul.registry import ConsulRegistry
from sappers.decisions.mesh import plan_mesh
from sappers.launchers.guest_identity import user_id_for
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.mesh import MeshPlan, MeshPorts, MeshProxy, Upstream
from sappers.model.workload import ImageReference, Workload
from sappers.supervision import DetachedSupervisor
from tests.consul_agents import DevConsul, consul_program
from tests.loopback import free_port, own_network
from tests.unit.worlds import member

ADDRESSES = {f"m{number}": f"{own_network()}{number}" for number in (1, 2, 3)}
IMAGE = ImageReference("hello", "0" * 64)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "REPEAT_SECONDS", 0.5)
    monkeypatch.setattr(registration, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(mesh, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(mesh, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(mesh, "TOKENS_SECONDS", 0.0)


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[DevConsul]:
    one = DevConsul(f"{own_network()}9", tmp_path, token=str(uuid.uuid4()))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """Consul's, where each proxy's own user may run it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        copy = shutil.copy(consul_program(), folder)
        Path(copy).chmod(0o755)
        yield Path(copy)


class World:
    """Members that share a Consul agent, and a service that one of them has."""

    def __init__(self, consul: DevConsul, program: Path, folder: Path) -> None:
        self.consul = consul
        self.calls = ConsulCalls(consul.settings, threads=4)
        self.supervisor = {one: DetachedSupervisor(folder / one / "units") for one in ADDRESSES}
        host = Host(user_id_for, lambda *_: (), lambda *_: ())
        self.proxies = {
            one: ConnectProxies(
                folder / one / "mesh",
                self.calls,
                consul.settings,
                self.supervisor[one],
                SystemClock(),
                host,
                find_program=lambda: program,
            )
            for one in ADDRESSES
        }
        self.meshes = {one: self.new_mesh(one, folder) for one in ADDRESSES}
        self.registrations = {
            one: Registration(ConsulRegistry(self.calls), SystemClock()) for one in ADDRESSES
        }
        self.port = free_port()
        self.state = self.world(links=("db",))

    def new_mesh(self, name: str, folder: Path) -> Mesh:
        return Mesh(
            folder / name / "mesh" / "ports.json",
            SystemClock(),
            self.proxies[name],
            ConsulIntentions(self.calls, with_tokens=True),
        )

    def world(self, *, links: tuple[str, ...]) -> ClusterState:
        workloads = (
            Workload("db", IMAGE, guest_port=5432, private=True),
            Workload("shop", IMAGE, links=links),
        )
        allocations = (
            Allocation("db-00000001", "db", 0, IMAGE, 128, "m2", 3, 5432, self.port, private=True),
            Allocation("shop-00000001", "shop", 0, IMAGE, 128, "m1", 3),
        )
        return ClusterState(
            cluster_id="c1",
            members=immutables.Map(
                {one: member(int(one[1]), address=at) for one, at in ADDRESSES.items()}
            ),
            workloads=immutables.Map({one.name: one for one in workloads}),
            allocations=immutables.Map(
                {
                    one.id: msgspec.structs.replace(one, status=AllocationStatus.HEALTHY)
                    for one in allocations
                }
            ),
        )

    def follow(self) -> None:
        for one, each in self.meshes.items():
            me = self.state.members[one]
            each.follow(self.state, me, "m3")
            self.registrations[one].follow(self.state, me, ())

    async def until(self, look: Callable[[], Any], what: str, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            self.follow()
            found = look()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            troubles = [one.trouble for one in self.meshes.values()]
            assert time.monotonic() < deadline, f"{what}: {troubles}"
            await asyncio.sleep(0.1)

    async def pids(self, name: str) -> list[int | None]:
        return [one.pid for one in await self.supervisor[name].list(UNIT_PREFIX)]

    def link(self) -> int:
        return self.meshes["m1"].links_of("shop-00000001").get("db", 0)

    def intentions(self) -> set[tuple[str, str, str]]:
        return {
            (one["SourceName"], one["DestinationName"], one["Action"])
            for one in self.consul.get("/v1/connect/intentions") or []
        }

    def proxy_tokens(self) -> set[str]:
        return {
            one["Description"]
            for one in self.consul.get("/v1/acl/tokens")
            if one["Description"].startswith("sappers ")
        }


@pytest.fixture
async def world(consul: DevConsul, program: Path, tmp_path: Path) -> AsyncIterator[World]:
    one = World(consul, program, tmp_path)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                writer.write(b"db: " + line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", one.port)
    runs = (*one.meshes.values(), *one.registrations.values())
    tasks = [asyncio.create_task(each.run()) for each in runs]
    yield one
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for supervisor in one.supervisor.values():
        for unit in await supervisor.list(UNIT_PREFIX):
            await supervisor.stop(unit.name, 2.0)
    server.close()
    one.calls.close()


async def says(port: int, address: str = "127.0.0.1") -> bytes:
    """What comes back for a line; nothing where the connection ends."""
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"hello\n")
            answer = await reader.readline()
            writer.close()
            return answer
    except OSError:
        return b""


async def answers(port: int) -> bool:
    return await says(port) == b"db: hello\n"


async def test_who_is_linked_gets_through_and_nobody_else(world: World) -> None:
    await world.until(lambda: answers(world.link()), "shop reaches db")
    assert world.intentions() == {("*", "db", "deny"), ("shop", "db", "allow")}
    assert world.proxy_tokens() == {
        "sappers c1 db-00000001 db",
        "sappers c1 shop-00000001 shop",
    }
    (instance,) = world.consul.get("/v1/health/connect/db")
    public = instance["Service"]["Port"]
    # Without a certificate of the mesh nothing comes through.
    assert await says(public, ADDRESSES["m2"]) == b""
    # Nor with that of a service that is not linked, though it is a true one.
    port = free_port()
    stranger = MeshProxy(
        "c1", "m3", "other-00000001", 3, "other", ADDRESSES["m3"],
        upstreams=(Upstream("db", port),),
    )  # fmt: skip
    await world.proxies["m3"].keep(MeshPlan("c1", "m3", (stranger,)))
    for _ in range(20):
        assert await says(port) == b""
        await asyncio.sleep(0.1)
    assert await answers(world.link())


async def test_what_is_gone_from_consul_comes_back_and_a_link_that_goes_is_gone(
    world: World,
) -> None:
    await world.until(lambda: answers(world.link()), "shop reaches db")
    (allowed,) = [
        one for one in world.consul.get("/v1/connect/intentions") if one["Action"] == "allow"
    ]
    path = f"/v1/connect/intentions/{allowed['ID']}"
    world.consul.put(path, allowed | {"Action": "deny"})
    foreign = {"SourceName": "a", "DestinationName": "b", "SourceType": "consul", "Action": "allow"}
    world.consul.put("/v1/connect/intentions", foreign, method="POST")
    proxy = "sappers-db-00000001-sidecar-proxy"
    world.consul.put(f"/v1/agent/service/deregister/{proxy}")
    intact = {("*", "db", "deny"), ("shop", "db", "allow"), ("a", "b", "allow")}
    await world.until(lambda: world.intentions() == intact, "the intention is as it was")
    await world.until(lambda: proxy in world.consul.get("/v1/agent/services"), "registered anew")
    pids = await world.pids("m1")
    await world.until(lambda: answers(world.link()), "shop reaches db again")
    assert await world.pids("m1") == pids

    world.state = world.world(links=())
    await world.until(lambda: world.intentions() == {("a", "b", "allow")}, "only theirs is left")
    await world.until(lambda: world.proxy_tokens() == set(), "the tokens are taken back")
    for supervisor in world.supervisor.values():
        await world.until(partial(ended, supervisor), "the proxies end")
    assert proxy not in world.consul.get("/v1/agent/services")


async def ended(supervisor: DetachedSupervisor) -> bool:
    return not await supervisor.list(UNIT_PREFIX)


async def test_a_killed_proxy_is_started_again_and_an_agent_that_restarts_touches_none(
    world: World, tmp_path: Path
) -> None:
    await world.until(lambda: answers(world.link()), "shop reaches db")
    port = world.link()
    (killed,) = await world.pids("m1")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    await world.until(lambda: "had ended" in world.meshes["m1"].trouble, "it is said")
    await world.until(lambda: answers(port), "shop reaches db again")
    await world.until(lambda: world.meshes["m1"].trouble == "", "nothing is wrong")
    pids = await world.pids("m1")
    again = world.new_mesh("m1", tmp_path)
    again.follow(world.state, world.state.members["m1"], "m3")
    assert again.links_of("shop-00000001") == {"db": port}
    await world.proxies["m1"].keep(plan_mesh(world.state, world.state.members["m1"], {
        "shop-00000001": MeshPorts(0, {"db": port})}))  # fmt: skip
    assert await world.pids("m1") == pids
    # One whose links were opened otherwise, as an earlier version did it, is replaced.
    record = tmp_path / "m1" / "mesh" / "shop-00000001" / "record.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"doors": ["otherwise"]}))

    async def replaced() -> bool:
        return await world.pids("m1") not in ([], pids)

    await world.until(replaced, "another proxy runs")
    await world.until(lambda: answers(port), "shop reaches db through it")


@pytest.mark.timeout(900)  # its proxies wait longer between tries, the longer it was away
async def test_consul_away_ends_nothing_and_is_met_again(world: World) -> None:
    await world.until(lambda: answers(world.link()), "shop reaches db")
    reader, writer = await asyncio.open_connection("127.0.0.1", world.link())
    writer.write(b"one\n")
    assert await asyncio.wait_for(reader.readline(), 60) == b"db: one\n"
    pids = await world.pids("m1")
    world.consul.stop()
    await world.until(lambda: "Consul" in world.meshes["m1"].trouble, "it is said")
    writer.write(b"two\n")
    assert await asyncio.wait_for(reader.readline(), 60) == b"db: two\n"
    writer.close()
    assert await world.pids("m1") == pids
    # It comes back with nothing that it knew: intentions, tokens, services, not even its authority.
    world.consul.start()
    await world.until(lambda: answers(world.link()), "shop reaches db again", 300)
    assert await world.pids("m1") == pids
