"""What a member's gateway is told, by a catalog and a gateway that only remember."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import msgspec

from sappers.agent.routing import Routing
from sappers.errors import GatewayError
from sappers.model.cluster_state import ClusterState
from sappers.model.route import Backend, Route
from tests.unit.worlds import founded, workload
from tests.waiting import eventually

ONE = Backend("hello-1", "10.0.0.1", 80)


class Catalog:
    def __init__(self) -> None:
        self.followed: list[tuple[str, tuple[str, ...]]] = []
        self.found: dict[str, Sequence[Backend]] = {}
        self.news = asyncio.Event()

    def follow(self, cluster_id: str, services: Collection[str]) -> None:
        self.followed.append((cluster_id, tuple(services)))

    def passing(self) -> Mapping[str, Sequence[Backend]]:
        return self.found

    async def changes(self) -> AsyncIterator[None]:
        while True:
            await self.news.wait()
            self.news.clear()
            yield

    def tell(self, **found: Sequence[Backend]) -> None:
        self.found = found
        self.news.set()


class Gateway:
    def __init__(self, *before: Route) -> None:
        self.told = before
        self.runs = False
        self.refuses: GatewayError | None = None

    def routes(self) -> tuple[Route, ...]:
        return self.told

    async def route(self, routes: Sequence[Route]) -> None:
        if self.refuses:
            raise self.refuses
        self.told, self.runs = tuple(routes), True

    async def stop(self) -> None:
        self.told, self.runs = (), False


def state_with(*names: str) -> ClusterState:
    state = founded()
    return msgspec.structs.replace(
        state, workloads=state.workloads.update({name: workload(name) for name in names})
    )


@contextlib.asynccontextmanager
async def running(routing: Routing) -> AsyncIterator[None]:
    task = asyncio.create_task(routing.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_last_routes_are_had_before_anything_is_known() -> None:
    gateway = Gateway(Route("hello", (ONE,)))
    async with running(Routing(gateway, Catalog())):
        await eventually(lambda: gateway.runs)
    assert gateway.told == (Route("hello", (ONE,)),)


async def test_it_follows_the_state_and_consul() -> None:
    gateway, catalog = Gateway(), Catalog()
    routing = Routing(gateway, catalog)
    async with running(routing):
        routing.follow(state_with("hello", "shop"))
        await eventually(lambda: gateway.told == (Route("hello"), Route("shop")))
        catalog.tell(hello=[ONE])
        await eventually(lambda: gateway.told == (Route("hello", (ONE,)), Route("shop")))
        routing.follow(state_with("shop"))
        await eventually(lambda: gateway.told == (Route("shop"),))
    assert catalog.followed == [("c1", ("hello", "shop")), ("c1", ("shop",))]


async def test_what_keeps_the_gateway_is_said_until_it_is_over() -> None:
    gateway, catalog = Gateway(), Catalog()
    gateway.refuses = GatewayError("port 8080 is taken", hint="stop it")
    routing = Routing(gateway, catalog)
    async with running(routing):
        await eventually(lambda: routing.trouble == "port 8080 is taken; stop it")
        gateway.refuses = None
        routing.follow(state_with("hello"))
        await eventually(lambda: not routing.trouble)


async def test_where_none_is_wanted_none_runs() -> None:
    gateway = Gateway(Route("hello"))
    gateway.runs = True
    routing = Routing(gateway, None)
    async with running(routing):
        await eventually(lambda: not gateway.runs)
        routing.follow(state_with("hello"))
