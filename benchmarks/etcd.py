"""etcd, three of it with its defaults, written to through its JSON gateway."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.voters import resident_mib

NAME = "etcd"
_CLIENT_PORT, _PEER_PORT = 2379, 2380
_READY_SECONDS = 30.0
_TRY_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
# As long as what one of our writes carries.
_VALUE = base64.b64encode(b"v" * 200).decode()


class Etcd:
    """Three servers on addresses of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._addresses = {f"etcd-{n}": f"127.94.1.{n}" for n in (1, 2, 3)}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._keys = itertools.count()

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator[Etcd]:
        """A cluster with a leader; its processes end with the block."""
        etcd = cls(folder)
        try:
            for name in etcd._addresses:
                await etcd._start(name)
            await etcd._leader()
            yield etcd
        finally:
            for name in list(etcd._processes):
                await etcd._kill(name)

    async def write(self, count: int, at_once: int) -> tuple[float, list[float]]:
        """Seconds in all, and of each write, at the leader."""
        leader = await self._leader()
        numbers, taken = iter(range(count)), list[float]()

        async def one_after_the_other() -> None:
            async with _connected(self._addresses[leader]) as connection:
                for _ in numbers:
                    began = time.perf_counter()
                    await self._put(connection)
                    taken.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
        return time.perf_counter() - began, taken

    async def fail_over(self) -> float:
        """Kill the leader: seconds until another acknowledges a write. It is back afterwards."""
        leader = await self._leader()
        others = [name for name in self._addresses if name != leader]
        began = time.monotonic()
        os.kill(self._processes[leader].pid, signal.SIGKILL)
        asked = [asyncio.create_task(self._succeed(name)) for name in others]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        seconds = done.pop().result() - began
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await self._kill(leader)
        await self._start(leader)
        await self._await_healthy()
        return seconds

    async def memory_mib(self) -> float:
        """Resident memory of the leader."""
        return resident_mib(self._processes[await self._leader()].pid)

    async def _start(self, name: str) -> None:
        address = self._addresses[name]
        peers = ",".join(f"{one}=http://{at}:{_PEER_PORT}" for one, at in self._addresses.items())
        client, peer = f"http://{address}:{_CLIENT_PORT}", f"http://{address}:{_PEER_PORT}"
        with (self._folder / f"{name}.log").open("ab") as output:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *("etcd", "--name", name, "--data-dir", str(self._folder / name)),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", peers, "--log-level", "error"),
                stdout=output,
                stderr=output,
            )

    async def _kill(self, name: str) -> None:
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _succeed(self, name: str) -> float:
        """When it first acknowledged a write that it was asked for."""
        while True:
            with contextlib.suppress(OSError, EOFError, ValueError):
                async with (
                    asyncio.timeout(_TRY_SECONDS),
                    _connected(self._addresses[name]) as connection,
                ):
                    await self._put(connection)
                    return time.monotonic()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _put(self, connection: _Connection) -> None:
        key = base64.b64encode(f"bench-{next(self._keys)}".encode()).decode()
        await connection.call("/v3/kv/put", {"key": key, "value": _VALUE})

    async def _leader(self) -> str:
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                for name in self._addresses:
                    status = await self._status(name)
                    if status and status.get("leader") == status["header"]["member_id"]:
                        return name
                await asyncio.sleep(0.05)

    async def _await_healthy(self) -> None:
        """Until all have applied the same index."""
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                found = [await self._status(name) for name in self._addresses]
                if len({one and one["raftAppliedIndex"] for one in found} - {None}) == 1 and all(
                    found
                ):
                    return
                await asyncio.sleep(0.05)

    async def _status(self, name: str) -> dict[str, Any] | None:
        try:
            async with (
                asyncio.timeout(_TRY_SECONDS),
                _connected(self._addresses[name]) as connection,
            ):
                return await connection.call("/v3/maintenance/status", {})
        except (OSError, EOFError, ValueError):
            return None


class _Connection:
    """HTTP/1.1, kept open, one call at a time: the thinnest client, so that etcd is the limit."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def call(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        """Its answer.

        Raises:
            EOFError, OSError: The connection broke.
            ValueError: It refused.
        """
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {len(content)}\r\n\r\n"
        self._writer.write(head.encode() + content)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        said = await self._reader.readexactly(length)
        if not answered.startswith(b"http/1.1 200"):
            raise ValueError(said.decode(errors="replace"))
        return json.loads(said)  # type: ignore[no-any-return]


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[_Connection]:
    reader, writer = await asyncio.open_connection(address, _CLIENT_PORT)
    try:
        yield _Connection(reader, writer)
    finally:
        writer.close()
