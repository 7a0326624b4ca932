"""A gateway with a real HAProxy, and HTTP servers behind it that come, go and die."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Self

import httpx

from sappers.gateway.configuration import Listen
from sappers.gateway.haproxy import UNIT, HaproxyGateway
from sappers.model.route import Backend
from sappers.supervision import DetachedSupervisor
from tests.loopback import free_port, own_network
from tests.waiting import eventually

ADDRESS = f"{own_network()}1"


class World:
    """A gateway and the servers behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "gateway"
        self.supervisor = DetachedSupervisor(folder / "processes")
        self.listen = Listen(ADDRESS, free_port())
        self.gateway = HaproxyGateway(self.folder, self.supervisor, self.listen)
        self.servers: dict[str, asyncio.subprocess.Process] = {}
        self.client = httpx.AsyncClient(
            base_url=f"http://{ADDRESS}:{self.listen.port}", timeout=20.0, trust_env=False
        )

    async def serve(self, name: str) -> Backend:
        """A server that answers with its name, once it listens."""
        backend = Backend(name, f"{own_network()}2", free_port())
        self.servers[name] = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.http_server"),
            *(backend.address, str(backend.port), name),
        )
        await eventually(lambda: accepts(backend))
        return backend

    async def kill(self, name: str) -> None:
        process = self.servers.pop(name)
        process.kill()
        await process.wait()

    async def pid(self) -> int | None:
        unit = await self.supervisor.status(UNIT)
        return unit.pid if unit else None

    async def close(self) -> None:
        await self.client.aclose()
        await self.gateway.stop()
        for name in list(self.servers):
            await self.kill(name)


async def accepts(backend: Backend) -> bool:
    try:
        _, writer = await asyncio.open_connection(backend.address, backend.port)
    except OSError:
        return False
    writer.close()
    return True


class Echo:
    """A server that answers with the head of each request, or breaks it off `breaks` times."""

    def __init__(self, name: str) -> None:
        self.backend = Backend(name, f"{own_network()}3", free_port())
        self.breaks = 0
        self.asked: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self.answer, self.backend.address, self.backend.port
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        self.asked.append(head.decode())
        if self.breaks:
            self.breaks -= 1
        else:
            writer.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                % (len(head), head)
            )
            await writer.drain()
        writer.close()
