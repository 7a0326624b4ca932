"""The gateway as the agent runs it: a real HAProxy that is routed from a real Consul."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.http_load import Load, send
from sappers.agent.routing import Routing
from sappers.consul import catalog
from sappers.consul.calls import ConsulCalls
from sappers.consul.catalog import ConsulCatalog
from sappers.decisions.reconcile_services import META_ALLOCATION, META_CLUSTER
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import RegisterMember
from sappers.model.route import Backend
from tests.consul_agents import DevConsul
from tests.fake_member import make_allocation
from tests.integration.gateways import ADDRESS, World, accepts
from tests.loopback import own_network
from tests.unit.worlds import commit, founded, member, with_allocations, workload
from tests.waiting import eventually

CLUSTER = "c1"


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[DevConsul]:
    one = DevConsul(f"{own_network()}9", tmp_path)
    one.start()
    yield one
    one.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


@asynccontextmanager
async def routing(world: World, consul: DevConsul) -> AsyncIterator[Routing]:
    calls = ConsulCalls(consul.settings)
    followed = ConsulCatalog(calls)
    one = Routing(world.gateway, followed)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        followed.close()
        calls.close()


def state_of(*allocations: Allocation, services: tuple[str, ...] = ("hello",)) -> ClusterState:
    state, _ = commit(founded(), RegisterMember(member(1, address=f"{own_network()}2")))
    table = state.workloads.update({name: workload(name) for name in services})
    return with_allocations(msgspec.structs.replace(state, workloads=table), *allocations)


def guest(backend: Backend, **changes: Any) -> Allocation:
    made = msgspec.structs.replace(
        make_allocation("hello", "m1"),
        id=backend.id,
        host_port=backend.port,
        status=AllocationStatus.HEALTHY,
    )
    return msgspec.structs.replace(made, **changes)


def register(consul: DevConsul, backend: Backend, status: str, cluster: str = CLUSTER) -> None:
    consul.put(
        "/v1/agent/service/register",
        {
            "Name": "hello",
            "ID": f"sappers-{backend.id}",
            "Address": backend.address,
            "Port": backend.port,
            "Meta": {META_CLUSTER: cluster, META_ALLOCATION: backend.id},
            "Check": {"CheckID": backend.id, "TTL": "600s", "Status": status},
        },
    )


async def listens(world: World) -> None:
    listen = world.listen
    await eventually(lambda: accepts(Backend("gateway", listen.address, listen.port)))


async def answers(world: World, *expected: object) -> None:
    """Wait until just these bodies, or statuses of errors, come back."""

    async def as_expected() -> bool:
        seen: set[object] = set()
        for _ in range(3 * len(expected)):
            answer = await world.client.get("/hello")
            seen.add(answer.text.strip() if answer.status_code == 200 else answer.status_code)
        return seen == set(expected)

    await eventually(as_expected)


async def test_requests_go_to_guests_that_pass_their_checks(
    world: World, consul: DevConsul
) -> None:
    one, two, other = [await world.serve(f"hello-{number}") for number in range(3)]
    dead = {"status": AllocationStatus.UNHEALTHY}
    async with routing(world, consul) as routed:
        await listens(world)
        await answers(world, 404)
        routed.follow(state_of(guest(one, **dead), guest(two, **dead)))
        await answers(world, 503)
        register(consul, one, "passing")
        register(consul, two, "critical")
        register(consul, other, "passing", cluster="another")
        await answers(world, "hello-0")
        consul.put(f"/v1/agent/check/pass/{two.id}")
        await answers(world, "hello-0", "hello-1")
        consul.put(f"/v1/agent/check/warn/{one.id}")
        await answers(world, "hello-1")
        consul.put(f"/v1/agent/service/deregister/sappers-{two.id}")
        await answers(world, 503)
        routed.follow(state_of(services=()))
        await answers(world, 404)


async def test_requests_go_on_while_consul_is_away_and_what_was_missed_is_caught_up(
    world: World, consul: DevConsul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "RETRY_SECONDS", 0.1)
    one, two, three = [await world.serve(f"hello-{number}") for number in range(3)]
    load, enough = Load(), asyncio.Event()
    register(consul, one, "passing")
    register(consul, two, "passing")
    async with routing(world, consul) as routed:
        await listens(world)
        routed.follow(state_of(guest(one), guest(two)))
        await answers(world, "hello-0", "hello-1")
        port = world.listen.port
        client = asyncio.create_task(
            send(load, ADDRESS, port, "/hello", until=enough, keep_alive=True)
        )
        consul.stop()
        # Its end is committed, so it gets no more requests although Consul cannot say so.
        routed.follow(state_of(guest(one), guest(two, wanted=False)))
        await answers(world, "hello-0")
        await world.kill(two.id)
    # Another agent, while Consul is still away; then a Consul that knows nothing.
    async with routing(world, consul) as routed:
        routed.follow(state_of(guest(one), guest(three)))
        await answers(world, "hello-0")
        consul.start()
        await asyncio.sleep(1.0)
        await answers(world, "hello-0")
        register(consul, one, "passing")
        register(consul, three, "passing")
        await answers(world, "hello-0", "hello-2")
    enough.set()
    await client
    assert load.failures == {} and load.count > 100
