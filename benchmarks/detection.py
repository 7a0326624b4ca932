"""How soon a group sees that a host is dead, and whom it wrongly thinks so: ours beside Serf."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Self

from benchmarks.figures import Row, Section, at_most, figure, spread
from benchmarks.namespace import losing, unplugged

Say = Callable[[str], None]

MEMBERS = 8
KILLS = 8
QUIET_SECONDS = 60.0
LOST_PERCENT = 10
_PORT = 7946
_SEEN_SECONDS = 90.0
_SERF_EVENT = re.compile(rb"EventMember(Join|Failed|Leave|Reap|Update): (\S+)")


class Group(ABC):
    """Members on addresses of their own, and what each says of the others.

    Attributes:
        alarms: Who was said to be dead, by whom, and when (`time.monotonic`).
    """

    def __init__(self, folder: Path, network: str) -> None:
        self.folder = folder
        self.addresses = {f"m{n}": f"{network}.{n}" for n in range(1, MEMBERS + 1)}
        self.alarms: list[tuple[str, str, float]] = []
        self._alive: dict[str, set[str]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, network: str) -> AsyncIterator[Self]:
        """A whole group; its processes end with the block."""
        group = cls(folder, network)
        try:
            for name in group.addresses:
                await group.start(name)
            await group.await_whole()
            yield group
        finally:
            for name in list(group._processes):
                await group.kill(name)

    async def start(self, name: str) -> None:
        """Have a member run; it meets the others by itself."""
        with (self.folder / f"{name}.log").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *self.argv(name), stdout=asyncio.subprocess.PIPE, stderr=errors, limit=1 << 20
            )
        self._alive[name] = set()
        self._processes[name] = process
        self._readers[name] = asyncio.create_task(self._read(name, process))

    async def kill(self, name: str) -> None:
        """`kill -9`."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await self._readers.pop(name)
        del self._alive[name]

    async def await_whole(self) -> None:
        """Return once each sees each."""
        await self._until(lambda: all(len(seen) == MEMBERS for seen in self._alive.values()))

    async def lost(self, name: str, since: float) -> tuple[float, float]:
        """Seconds from `since` until the first and until the last of the others saw it dead."""
        await self._until(lambda: all(name not in seen for seen in self._alive.values()))
        seen: dict[str, float] = {}
        for observer, dead, at in self.alarms:
            if dead == name and at >= since and observer in self._alive:
                seen.setdefault(observer, at)
        return min(seen.values()) - since, max(seen.values()) - since

    def tell(self, observer: str, name: str, *, alive: bool) -> None:
        """What a member says of another, or of itself."""
        known = self._alive[observer]
        if alive:
            known.add(name)
        elif name in known:
            known.discard(name)
            self.alarms.append((observer, name, time.monotonic()))
        self._news.set()

    async def _until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(_SEEN_SECONDS):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def _read(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.hear(name, line)

    @abstractmethod
    def argv(self, name: str) -> Sequence[str]:
        """What starts a member."""

    @abstractmethod
    def hear(self, observer: str, line: bytes) -> None:
        """Take in what a member printed."""


class Ours(Group):
    """Members as agents are: kinship with the agent's settings, encrypted."""

    _key = base64.b64encode(os.urandom(32)).decode()

    def argv(self, name: str) -> Sequence[str]:
        """What starts a member."""
        config = {
            "name": name,
            "address": self.addresses[name],
            "port": _PORT,
            "peers": [f"{address}:{_PORT}" for address in self.addresses.values()],
            "folder": str(self.folder),
            "key": self._key,
        }
        return sys.executable, "-m", "benchmarks.gossip_process", json.dumps(config)

    def hear(self, observer: str, line: bytes) -> None:
        """Take in what a member printed."""
        for name, state in json.loads(line).items():
            self.tell(observer, name, alive=state in ("alive", "suspect"))


class Serf(Group):
    """Serf with the defaults of its LAN profile."""

    def argv(self, name: str) -> Sequence[str]:
        """What starts a member."""
        at = self.addresses[name]
        joins = [f"-retry-join={address}" for address in self.addresses.values()]
        return (
            *("serf", "agent", f"-node={name}", f"-bind={at}:{_PORT}", f"-rpc-addr={at}:7373"),
            *("-profile=lan", "-log-level=info", "-retry-interval=2s", *joins),
        )

    def hear(self, observer: str, line: bytes) -> None:
        """Take in what a member printed."""
        if found := _SERF_EVENT.search(line):
            alive = found[1] in (b"Join", b"Update")
            self.tell(observer, found[2].decode(), alive=alive)


async def measure(folder: Path, say: Say) -> AsyncIterator[Section]:
    """Both groups run all the time and suffer the same at the same time."""
    async with AsyncExitStack() as stack:
        for name in ("gossip", "serf"):
            (folder / name).mkdir()
        ours = await stack.enter_async_context(Ours.running(folder / "gossip", "127.94.2"))
        serf = await stack.enter_async_context(Serf.running(folder / "serf", "127.94.3"))
        groups: dict[str, Group] = {"ours": ours, "Serf": serf}
        yield await _killed(groups, say)
        yield await _false_alarms(groups, say)


async def _killed(groups: dict[str, Group], say: Say) -> Section:
    first: dict[str, list[float]] = {name: [] for name in groups}
    last: dict[str, list[float]] = {name: [] for name in groups}
    for turn in range(KILLS):
        victim = f"m{turn % MEMBERS + 1}"
        with unplugged(*(group.addresses[victim] for group in groups.values())):
            began = time.monotonic()
            await asyncio.gather(*(group.kill(victim) for group in groups.values()))
            for name, group in groups.items():
                soonest, latest = await group.lost(victim, began)
                first[name].append(soonest)
                last[name].append(latest)
                say(f"{victim} killed, {turn + 1} of {KILLS}, {name}: {soonest:.1f} s")
        for group in groups.values():
            await group.start(victim)
            await group.await_whole()
    mine, theirs = median(last["ours"]), median(last["Serf"])
    rows = [
        Row("ours, first to know, min / median / max", spread(first["ours"])),
        Row("Serf, first to know, min / median / max", spread(first["Serf"])),
        Row("ours, all know, min / median / max", spread(last["ours"])),
        Row("Serf, all know, min / median / max", spread(last["Serf"])),
        at_most("ours / Serf, all know, medians", mine / theirs, 1.0, "times", 2),
    ]
    bars = [figure("ours, all know", mine, "s"), figure("Serf, all know", theirs, "s")]
    notes = (
        f"{MEMBERS} members; one host in each group is cut off and killed at the same moment, "
        f"{KILLS} times. Serf runs with the defaults of its LAN profile.",
    )
    return Section("A host dies", rows, notes, bars)


async def _false_alarms(groups: dict[str, Group], say: Say) -> Section:
    rows: list[Row] = []

    def take(what: str, before: dict[str, int]) -> None:
        for name, group in groups.items():
            found = Counter(dead for _, dead, _ in group.alarms[before[name] :])
            count = float(sum(found.values()))
            label = f"{what}, {name}"
            rows.append(
                at_most(label, count, 0, "alarms", 0)
                if name == "ours"
                else figure(label, count, "alarms", 0)
            )

    def counted() -> dict[str, int]:
        return {name: len(group.alarms) for name, group in groups.items()}

    say(f"{LOST_PERCENT} % of all packets are lost for {QUIET_SECONDS:.0f} s")
    before = counted()
    with losing(LOST_PERCENT):
        await asyncio.sleep(QUIET_SECONDS)
    take(f"{LOST_PERCENT} % of packets lost", before)
    for group in groups.values():
        await group.await_whole()
    say(f"all processors are busy for {QUIET_SECONDS:.0f} s")
    before = counted()
    async with _busy():
        await asyncio.sleep(QUIET_SECONDS)
    take("all processors busy", before)
    notes = (
        f"Living members called dead, by each member that did, within {QUIET_SECONDS:.0f} s. Busy: "
        "two endless loops for each processor, of the same priority.",
    )
    return Section("False alarms", rows, notes)


@asynccontextmanager
async def _busy() -> AsyncIterator[None]:
    loops = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for one in loops:
            one.kill()
            await one.wait()
