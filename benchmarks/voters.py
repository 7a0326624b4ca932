"""Three voters of ours on addresses of their own, each with its agent's side in a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.lines import Child
from sappers.security.authority import Authority, create_authority, create_request, sign_request

NAME = "sappers"
_PORT = 12000
_LEADER_SECONDS = 30.0


class Voters:
    """Our three; `benchmarks.etcd.Etcd` offers the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._addresses = {f"node-{n}": f"127.94.0.{n}:{_PORT}" for n in (1, 2, 3)}
        self._children: dict[str, Child] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator[Voters]:
        """A founded cluster; its processes end with the block."""
        voters = cls(folder)
        authority = create_authority("bench")
        for node in voters._addresses:
            _write_identity(authority, node, folder / node / "pki")
        try:
            for node in voters._addresses:
                await voters._start(node)
            leader, _ = await voters._leader()
            await voters._children[leader].ask({"do": "found"})
            yield voters
        finally:
            for node in voters._addresses:
                await voters._kill(node)

    async def write(self, count: int, at_once: int) -> tuple[float, list[float]]:
        """Seconds in all, and of each write."""
        leader, _ = await self._leader()
        told = await self._children[leader].ask({"do": "write", "count": count, "at_once": at_once})
        return told["seconds"], told["taken"]

    async def fail_over(self) -> float:
        """Kill the leader: seconds until another acknowledges a write. It is back afterwards."""
        leader, standing = await self._leader()
        others = [child for node, child in self._children.items() if node != leader]
        await self._await_equal()
        began = time.monotonic()
        os.kill(standing["raft_pid"], signal.SIGKILL)
        os.kill(self._children[leader].pid, signal.SIGKILL)
        asked = [
            asyncio.create_task(child.ask({"do": "succeed", "term": standing["term"]}))
            for child in others
        ]
        # One of the two leads. The other's question ends when leadership comes to it some day,
        # so it is started anew as well.
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        seconds = float(done.pop().result()["at"]) - began
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        for node in self._addresses:
            await self._kill(node)
        for node in self._addresses:
            await self._start(node)
        return seconds

    async def snapshot(self) -> dict[str, Any]:
        """What one costs, of what is stored now."""
        leader, _ = await self._leader()
        return await self._children[leader].ask({"do": "snapshot"})

    async def memory_mib(self) -> float:
        """Resident memory of the leader: its raft process and its agent's side."""
        leader, standing = await self._leader()
        return resident_mib(standing["raft_pid"]) + resident_mib(self._children[leader].pid)

    async def _start(self, node: str) -> None:
        config = {
            "me": node,
            "cluster": "bench",
            "addresses": self._addresses,
            "folder": str(self._folder / node),
        }
        argv = [sys.executable, "-m", "benchmarks.voter_process", json.dumps(config)]
        self._children[node] = await Child.start(argv, self._folder / f"{node}.log")

    async def _kill(self, node: str) -> None:
        child = self._children.pop(node, None)
        if child is None:
            return
        with contextlib.suppress(EOFError, TimeoutError, ConnectionError):
            async with asyncio.timeout(1.0):
                standing = await child.ask({"do": "standing"})
                with contextlib.suppress(ProcessLookupError):
                    os.kill(standing["raft_pid"], signal.SIGKILL)
        await child.kill()

    async def _standings(self) -> dict[str, dict[str, Any]]:
        return {node: await child.ask({"do": "standing"}) for node, child in self._children.items()}

    async def _leader(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(_LEADER_SECONDS):
            while True:
                for node, standing in (await self._standings()).items():
                    if standing["role"] == "leader":
                        return node, standing
                await asyncio.sleep(0.05)

    async def _await_equal(self) -> None:
        async with asyncio.timeout(_LEADER_SECONDS):
            while True:
                standings = await self._standings()
                if len({one["applied"] for one in standings.values()}) == 1:
                    return
                await asyncio.sleep(0.05)


def resident_mib(pid: int) -> float:
    """Memory of a process that lies in RAM, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)


def _write_identity(authority: Authority, node: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    key, request = create_request(node)
    cert = sign_request(authority, request, node_id=node, role="agent", addresses=())
    for name, content in (("ca", authority.cert_pem), ("cert", cert), ("key", key)):
        (folder / f"{name}.pem").write_bytes(content)
        (folder / f"{name}.pem").chmod(0o600)
