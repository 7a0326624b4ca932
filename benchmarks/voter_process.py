"""`python -m benchmarks.voter_process CONFIG`: a voter as an agent has one, and who writes to it.

Reads commands from its standard input and answers each with a line: `standing`, `write`,
`succeed`, `snapshot`, `stop`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from sappers.config import RaftSettings
from sappers.consensus.collector import spare_large_states
from sappers.consensus.raft_log import RaftLog
from sappers.errors import OutcomeUnknown, ProposalRejected
from sappers.model.commands import FoundCluster, Proposal, PutImage, PutWorkload
from sappers.model.image import ClusterImage
from sappers.model.view import Genesis
from sappers.model.workload import ImageReference, Workload
from sappers.security.identity import load_identity

_IMAGE = ClusterImage("hello", "0" * 64, "microvm", 1, 0.0)
_WRITE_SECONDS = 10.0
_TRY_SECONDS = 1.0
_PAUSE_SECONDS = 0.02


class _WallClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class _Voter:
    def __init__(self, config: dict[str, Any]) -> None:
        self._me: str = config["me"]
        voters = tuple(config["addresses"])
        genesis = Genesis(config["cluster"], voters[0], voters, config["addresses"])
        host, _, port = config["addresses"][self._me].rpartition(":")
        folder = Path(config["folder"])
        self._genesis = genesis
        self._keys = itertools.count()
        self._log = RaftLog(
            self._me,
            genesis,
            folder / "raft",
            load_identity(folder / "pki"),
            RaftSettings(),
            (host, int(port)),
            lambda _: None,
            _WallClock(),
            lambda: "ERROR",
        )

    async def serve(self) -> None:
        """Answer until the input ends or says so."""
        await self._log.start()
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            question = json.loads(line)
            answer = await getattr(self, question.pop("do"))(**question)
            print(json.dumps(answer), flush=True)
        await self._log.stop()

    async def standing(self) -> dict[str, Any]:
        status = self._log.status()
        return {
            "role": status.role.value,
            "term": status.term,
            "applied": self._log.state().index,
            "keys": len(self._log.state().workloads),
            "raft_pid": self._log.process_id,
        }

    async def found(self) -> dict[str, Any]:
        command = FoundCluster(self._genesis.cluster_id, self._genesis.voters)
        await self._propose("found", (command, PutImage(_IMAGE)), _WRITE_SECONDS)
        return {}

    async def write(self, count: int, at_once: int) -> dict[str, Any]:
        """Write new keys, so many in flight: seconds in all, and of each write."""
        numbers, taken = iter(range(count)), list[float]()

        async def one_after_the_other() -> None:
            for _ in numbers:
                began = time.perf_counter()
                await self._write(_WRITE_SECONDS)
                taken.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
        return {"seconds": time.perf_counter() - began, "taken": taken}

    async def succeed(self, term: int) -> dict[str, Any]:
        """Write until it is acknowledged in a term later than this one; when that was."""
        while True:
            try:
                if await self._write(_TRY_SECONDS) > term:
                    return {"at": time.monotonic()}
            except (ProposalRejected, OutcomeUnknown):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def snapshot(self) -> dict[str, Any]:
        """Take a snapshot while writes go on, one at a time: its seconds, and the slowest write."""
        taken: list[float] = []
        over = asyncio.Event()

        async def go_on() -> None:
            while not over.is_set():
                began = time.perf_counter()
                await self._write(_WRITE_SECONDS)
                taken.append(time.perf_counter() - began)

        before = self._log.status().term
        writing = asyncio.create_task(go_on())
        began = time.perf_counter()
        await self._log.trigger_snapshot()
        seconds = time.perf_counter() - began
        over.set()
        await writing
        return {
            "seconds": seconds,
            "slowest": max(taken),
            "elections": self._log.status().term - before,
        }

    async def _write(self, timeout_seconds: float) -> int:
        name = f"{self._me}-{next(self._keys)}-{time.monotonic_ns()}"
        workload = Workload(name, ImageReference(_IMAGE.name, _IMAGE.digest), count=0)
        return await self._propose(name, (PutWorkload(workload),), timeout_seconds)

    async def _propose(self, name: str, commands: tuple[Any, ...], timeout: float) -> int:
        proposal = Proposal(name, self._me, time.time(), commands, by=f"member/{self._me}")
        applied = await self._log.propose(proposal, timeout)
        if applied.refused:
            raise RuntimeError(applied.refused)
        return applied.term


if __name__ == "__main__":
    spare_large_states(seldom=200)  # as an agent does
    asyncio.run(_Voter(json.loads(sys.argv[1])).serve())
