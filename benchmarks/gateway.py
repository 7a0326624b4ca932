"""Requests through the gateway while guests come and go: how many fail, and what it costs.

A real HAProxy before servers that are processes of their own: each in turn is stopped in good
order, or killed without a word, and another takes its place. `python -m benchmarks.gateway` shows
it alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog
from rich.console import Console

from benchmarks.figures import Row, Section, any_missed, at_most, figure, show
from benchmarks.http_load import Load, send
from sappers.gateway.configuration import Listen
from sappers.gateway.haproxy import HaproxyGateway
from sappers.model.route import Backend, Route
from sappers.supervision import DetachedSupervisor

ADDRESS = "127.93.7.1"
REQUESTS = 100_000
CONNECTIONS = 16
GUESTS = 4
# One connection at a time for the price of the way, in blocks: both see the same machine.
BLOCKS, BLOCK_REQUESTS = 10, 500
CHANGE_SECONDS = 0.5
# What Consul needs, as a rule, to tell the gateway of a death.
UNNOTICED_SECONDS = 0.3


def measure(say: Callable[[str], None], requests: int = REQUESTS) -> list[Section]:
    """All figures; takes half a minute."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return [asyncio.run(_measure(say, requests))]


async def _measure(say: Callable[[str], None], requests: int) -> Section:
    async with _world() as world:
        say("gateway: one request at a time, beside a direct one")
        direct, through = await _latencies(world)
        say(f"gateway: {requests} requests while guests come and go")
        load, changes, seconds = await _churn(world, requests)
    ratio = through.percentile_ms(0.5) / direct.percentile_ms(0.5)
    reasons = "; ".join(f"{count} × {reason}" for reason, count in load.failures.most_common(3))
    return Section(
        "The gateway",
        [
            at_most(f"failed of {load.count} requests", load.failed, 0, "requests", 0),
            Row("guests stopped / killed meanwhile", f"{changes[0]} / {changes[1]}"),
            figure(
                "requests a second, half of the connections kept", load.count / seconds, "/s", 0
            ),
            figure("answered within, half of them, under that load", load.percentile_ms(0.5), "ms"),
            figure("answered within, 99 of 100, under that load", load.percentile_ms(0.99), "ms"),
            figure("one at a time, direct: half within", direct.percentile_ms(0.5), "ms", 2),
            figure("one at a time, direct: 99 of 100 within", direct.percentile_ms(0.99), "ms", 2),
            figure("one at a time, gateway: half within", through.percentile_ms(0.5), "ms", 2),
            figure(
                "one at a time, gateway: 99 of 100 within", through.percentile_ms(0.99), "ms", 2
            ),
            figure("gateway beside direct, half of the requests", ratio, "times"),
        ],
        [
            f"{CONNECTIONS} connections, half of them kept, half made for each request; {GUESTS} "
            f"servers, one of which ends every {CHANGE_SECONDS:g} s, in turn stopped in good order "
            f"and killed; of a death the gateway is told {UNNOTICED_SECONDS:g} s later. Client, "
            "gateway and servers share one machine. A request is never sent twice by the client.",
            *([f"Failures: {reasons}"] if reasons else []),
        ],
    )


class _World:
    def __init__(self, folder: Path) -> None:
        self.listen = Listen(ADDRESS, _free_port())
        self.gateway = HaproxyGateway(
            folder / "gateway", DetachedSupervisor(folder / "processes"), self.listen
        )
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.guests: list[Backend] = []
        self._count = 0

    async def add(self) -> None:
        self._count += 1
        guest = Backend(f"hello-{self._count}", "127.93.7.2", _free_port())
        self.processes[guest.id] = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.http_server"),
            *(guest.address, str(guest.port), guest.id),
        )
        async with asyncio.timeout(30.0):
            while not await _answers(guest):  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.02)
        self.guests.append(guest)

    async def kill(self, guest: Backend) -> None:
        process = self.processes.pop(guest.id)
        process.kill()
        await process.wait()

    async def route(self) -> None:
        await self.gateway.route([Route("hello", tuple(self.guests))])


@contextlib.asynccontextmanager
async def _world() -> AsyncIterator[_World]:
    with tempfile.TemporaryDirectory(prefix="sappers-bench-") as folder:
        world = _World(Path(folder))
        try:
            for _ in range(GUESTS):
                await world.add()
            await world.route()
            yield world
        finally:
            await world.gateway.stop()
            for process in world.processes.values():
                process.kill()
                await process.wait()


async def _latencies(world: _World) -> tuple[Load, Load]:
    """One request after the other over one kept connection: direct, and through the gateway."""
    direct, through = Load(), Load()
    guest = world.guests[0]
    for _ in range(BLOCKS):
        await _send_some(direct, BLOCK_REQUESTS, guest.address, guest.port, "/")
        await _send_some(through, BLOCK_REQUESTS, ADDRESS, world.listen.port, "/hello/")
    return direct, through


async def _send_some(load: Load, count: int, host: str, port: int, path: str) -> None:
    enough = asyncio.Event()
    sender = asyncio.create_task(send(load, host, port, path, until=enough, keep_alive=True))
    wanted = load.count + count
    while load.count < wanted:  # noqa: ASYNC110 - a counter
        await asyncio.sleep(0.01)
    enough.set()
    await sender


async def _churn(world: _World, requests: int) -> tuple[Load, tuple[int, int], float]:
    """What became of the requests, guests stopped and killed, and the seconds that it took."""
    chance, load, enough = random.Random(4), Load(), asyncio.Event()
    stopped = killed = 0
    begun = time.perf_counter()
    senders = [
        asyncio.create_task(
            send(
                load,
                ADDRESS,
                world.listen.port,
                "/hello/",
                until=enough,
                keep_alive=number % 2 == 0,
            )
        )
        for number in range(CONNECTIONS)
    ]
    while load.count < requests:
        await world.add()
        await world.route()
        leaving = world.guests.pop(chance.randrange(GUESTS))
        if (stopped + killed) % 2:
            await world.kill(leaving)
            await asyncio.sleep(UNNOTICED_SECONDS)
            await world.route()
            killed += 1
        else:
            await world.route()
            await asyncio.sleep(UNNOTICED_SECONDS)
            await world.kill(leaving)
            stopped += 1
        await asyncio.sleep(CHANGE_SECONDS)
    enough.set()
    await asyncio.gather(*senders)
    return load, (stopped, killed), time.perf_counter() - begun


async def _answers(guest: Backend) -> bool:
    try:
        _, writer = await asyncio.open_connection(guest.address, guest.port)
    except OSError:
        return False
    writer.close()
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Measure, print, and say by the exit code whether every aim was met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    arguments = parser.parse_args()
    progress = Console(stderr=True)
    sections = measure(lambda text: progress.print(text, style="dim"), arguments.requests)
    for section in sections:
        show(Console(), section)
    return int(any_missed(sections))


if __name__ == "__main__":
    sys.exit(main())
