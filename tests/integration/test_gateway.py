"""The gateway: a real HAProxy before real HTTP servers that come, go and die."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from benchmarks.http_load import Load, send
from sappers.errors import GatewayError
from sappers.gateway.configuration import shape_of
from sappers.gateway.haproxy import UNIT, HaproxyGateway
from sappers.gateway.runtime import ask
from sappers.model.route import Backend, Route
from tests.integration.gateways import ADDRESS, Echo, World
from tests.loopback import free_port, own_network
from tests.waiting import eventually


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


async def test_it_routes_by_the_first_part_of_the_path(world: World) -> None:
    async with Echo("hello-1") as echo:
        await world.gateway.route([Route("hello", (echo.backend,)), Route("shop")])
        answer = await world.client.get("/hello/a/b%20c?x=1&y=/z", headers={"X-Forwarded-For": "9"})
        head = answer.text.lower()
        assert answer.status_code == 200
        assert head.startswith("get /a/b%20c?x=1&y=/z http/1.1\r\n")
        assert "x-forwarded-prefix: /hello\r\n" in head
        assert "x-forwarded-for: 127.0.0.1\r\n" in head
        assert f"x-forwarded-host: {ADDRESS}:{world.listen.port}\r\n" in head
        for path, seen in (("/hello", "/"), ("/hello/", "/"), ("/hello?q", "/?q")):
            assert (await world.client.get(path)).text.startswith(f"GET {seen} HTTP/1.1\r\n")
        listing = await world.client.get("/")
        assert (listing.status_code, listing.text) == (404, "ask for /NAME of a service\n")


@pytest.mark.parametrize("path", ["/none", "/hell", "/hello2", "/HELLO/", "//hello", "/%68ello/"])
async def test_unknown_names_are_404(world: World, path: str) -> None:
    async with Echo("hello-1") as echo:
        await world.gateway.route([Route("hello", (echo.backend,))])
        answer = await world.client.get(f"http://{ADDRESS}:{world.listen.port}{path}")
        assert (answer.status_code, answer.text) == (404, "no service of that name\n")
        assert echo.asked == []


async def test_a_service_without_guests_is_503(world: World) -> None:
    await world.gateway.route([Route("hello")])
    answer = await world.client.get("/hello/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.text == "no healthy guest of this service\n"


async def test_services_and_guests_come_and_go_without_a_new_process(world: World) -> None:
    one, two = await world.serve("hello-1"), await world.serve("hello-2")
    await world.gateway.route([Route("hello", (one,))])
    before = await world.client.get("/hello/")
    pid, workers = await world.pid(), _workers(await world.pid())
    # Another agent, which knows nothing of the one before.
    again = HaproxyGateway(world.folder, world.supervisor, world.listen)
    assert again.routes() == (Route("hello", (one,)),)
    (world.folder / "routes.json").write_bytes(b'[{"service": "\xff"}]')
    assert HaproxyGateway(world.folder, world.supervisor, world.listen).routes() == ()
    await again.route([Route("hello", (two,))])
    after = await world.client.get("/hello/")
    assert (before.text, after.text) == ("hello-1\n", "hello-2\n")
    await again.route([Route("hello", (two, one))])
    seen = {(await world.client.get("/hello/")).text for _ in range(40)}
    assert seen == {"hello-1\n", "hello-2\n"}
    await again.route([Route("shop", (one,))])
    assert (await world.client.get("/shop")).text == "hello-1\n"
    assert (await world.client.get("/hello")).status_code == 404
    assert (await world.pid(), _workers(pid)) == (pid, workers)


def _workers(pid: int | None) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_a_configuration_of_another_shape_is_loaded_under_open_connections(
    world: World,
) -> None:
    one = await world.serve("hello-1")
    await world.gateway.route([Route("hello", (one,))])
    pid, workers = await world.pid(), _workers(await world.pid())
    text = (world.folder / "haproxy.cfg").read_text()
    load, enough = Load(), asyncio.Event()
    client = asyncio.create_task(
        send(load, ADDRESS, world.listen.port, "/hello/", until=enough, keep_alive=False)
    )
    # As an agent of another version would have left it.
    (world.folder / "haproxy.cfg").write_text(text.replace(shape_of(text), "other"))
    await _reload(world)
    await eventually(lambda: _workers(pid) != workers)
    await world.gateway.route([Route("hello", (one,))])
    enough.set()
    await client
    assert (await world.pid(), load.failures) == (pid, {})
    assert shape_of(text) in await ask(world.folder, "runtime.sock", "show info")


async def test_it_is_started_again_when_it_has_died(world: World) -> None:
    one = await world.serve("hello-1")
    await world.gateway.route([Route("hello", (one,))])
    await world.supervisor.stop(UNIT, 0.0)
    await world.gateway.route([Route("hello", (one,))])
    assert (await world.client.get("/hello/")).text == "hello-1\n"


async def test_a_taken_port_is_said_and_had_when_it_is_free(world: World) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((ADDRESS, world.listen.port))
        other.listen()
        with pytest.raises(GatewayError, match=f"port {world.listen.port} of {ADDRESS} is taken"):
            await world.gateway.route([Route("hello")])
    await world.gateway.route([Route("hello")])
    assert (await world.client.get("/hello")).status_code == 503


async def test_what_a_dying_guest_did_not_answer_goes_to_another(world: World) -> None:
    async with Echo("hello-1") as dying, Echo("hello-2") as living:
        dying.breaks = 100
        gone = Backend("hello-3", f"{own_network()}4", free_port())  # refuses connections
        await world.gateway.route([Route("hello", (dying.backend, living.backend, gone))])
        for _ in range(20):
            assert (await world.client.get("/hello/")).status_code == 200
        # What may have had its effect is not done twice; what was never taken is.
        posted = [await _posted(world) for _ in range(20)]
        assert set(posted) == {200, 502}
        assert len([one for one in dying.asked if one.startswith("POST")]) == posted.count(502)


async def _reload(world: World) -> None:
    """Make it load its file, as soon as it listens: it loads nothing else at that moment."""
    async with asyncio.timeout(60):
        while True:
            try:
                await ask(world.folder, "master.sock", "reload")
            except GatewayError:
                await asyncio.sleep(0.05)
            else:
                return


async def _posted(world: World) -> int:
    """The answer to a POST over a connection of its own."""
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://{ADDRESS}:{world.listen.port}/hello/"
        return (await client.post(url, content="x")).status_code


async def test_a_head_that_is_too_large_or_too_slow_is_refused(world: World) -> None:
    async with Echo("hello-1") as echo:
        await world.gateway.route([Route("hello", (echo.backend,))])
        large = await world.client.get("/hello", headers={"X-Large": "x" * 20_000})
        assert large.status_code in (400, 431)
        reader, writer = await asyncio.open_connection(ADDRESS, world.listen.port)
        writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n")
        answer = await asyncio.wait_for(reader.read(), 60.0)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert echo.asked == []


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_no_request_fails_while_guests_and_services_come_and_go(
    world: World, *, keep_alive: bool
) -> None:
    chance = random.Random(7)
    load, enough = Load(), asyncio.Event()
    guests = [await world.serve(f"hello-{number}") for number in range(3)]
    await world.gateway.route([Route("hello", tuple(guests))])
    clients = [
        asyncio.create_task(
            send(load, ADDRESS, world.listen.port, "/hello/", until=enough, keep_alive=keep_alive)
        )
        for _ in range(8)
    ]
    for number in range(3, 15):
        guests.append(await world.serve(f"hello-{number}"))
        leaving = guests.pop(chance.randrange(len(guests) - 1))
        if number % 3:
            await world.kill(leaving.id)  # the gateway does not know yet
            await asyncio.sleep(0.1)
        services = [Route("hello", tuple(guests))]
        if number % 4 == 0:
            services.append(Route(f"other-{number}"))
        await world.gateway.route(services)
        if leaving.id in world.servers:
            await asyncio.sleep(0.1)  # it is drained
            await world.kill(leaving.id)
    await asyncio.sleep(0.5)
    enough.set()
    await asyncio.gather(*clients)
    assert load.failures == {}
    assert len(load.bodies) == 15 and load.count > 100
