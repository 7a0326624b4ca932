"""Writes, fail-over, snapshots and memory: our voters beside etcd's, taking turns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from benchmarks.etcd import Etcd
from benchmarks.figures import Row, Section, at_least, at_most, figure, spread
from benchmarks.voters import Voters

Say = Callable[[str], None]

KILLS = 20
KEYS = 100_000
ROUNDS = 3
# In flight, writes a round, and how many a second are aimed at.
LOADS = ((1, 1_000, 1_000), (16, 6_000, None), (64, 10_000, 7_000))
_FILL_AT_ONCE = 64


async def measure(folder: Path, say: Say) -> AsyncIterator[Section]:
    """All of it in one run; never both at once, and each waits while the other works."""
    async with AsyncExitStack() as stack:
        for name in ("voters", "etcd"):
            (folder / name).mkdir()
        ours = await stack.enter_async_context(Voters.running(folder / "voters"))
        etcd = await stack.enter_async_context(Etcd.running(folder / "etcd"))
        yield await _writes(ours, etcd, say)
        yield await _fail_over(ours, etcd, say)
        yield await _snapshot(ours, etcd, say)


async def _writes(ours: Voters, etcd: Etcd, say: Say) -> Section:
    rows: list[Row] = []
    bars: list[Row] = []
    for at_once, count, aim in LOADS:
        for name, cluster in (("etcd", etcd), ("ours", ours)):
            rates, taken = [], list[float]()
            for turn in range(ROUNDS):
                say(f"writes, {at_once} in flight, {name}: {turn + 1} of {ROUNDS}")
                seconds, each = await cluster.write(count, at_once)
                rates.append(count / seconds)
                taken += each
            label = f"{at_once} in flight, {name}"
            rate = figure(label, median(rates), "writes/s", 0)
            limit = aim if name == "ours" else None
            rows.append(at_least(label, median(rates), limit, "writes/s", 0) if limit else rate)
            rows.append(Row(f"{label}, p50 / p99", _percentiles(taken)))
            bars.append(rate)
    notes = (
        f"Median of {ROUNDS} rounds, taking turns. Acknowledged writes of new keys at the leader, "
        "durable on a majority. Ours: proposals from the agent's side of the leader, with mutual "
        "TLS between the voters. etcd: puts over kept HTTP connections, no TLS, its defaults.",
    )
    return Section("Durable writes", rows, notes, bars)


async def _fail_over(ours: Voters, etcd: Etcd, say: Say) -> Section:
    taken: dict[str, list[float]] = {"ours": [], "etcd": []}
    for turn in range(KILLS):
        for name, cluster in (("etcd", etcd), ("ours", ours)):
            taken[name].append(await cluster.fail_over())
            say(f"leader killed, {name}, {turn + 1} of {KILLS}: {taken[name][-1]:.2f} s")
    mine, theirs = median(taken["ours"]), median(taken["etcd"])
    rows = [
        Row("ours, min / median / max", spread(taken["ours"])),
        Row("etcd, min / median / max", spread(taken["etcd"])),
        at_most("ours, median", mine, 0.6, "s", 2),
        at_most("ours, slowest", max(taken["ours"]), 2.0, "s", 2),
        at_most("ours / etcd, medians", mine / theirs, 1.0, "times", 2),
    ]
    notes = (
        f"{KILLS} times each, taking turns: from `kill -9` of the leader (ours: of its raft "
        "process and its agent's side) to the next acknowledged write at another voter.",
    )
    bars = [figure("ours, median", mine, "s", 2), figure("etcd, median", theirs, "s", 2)]
    return Section("Leader killed", rows, notes, bars)


async def _snapshot(ours: Voters, etcd: Etcd, say: Say) -> Section:
    for name, cluster in (("etcd", etcd), ("ours", ours)):
        say(f"{KEYS} keys, {name}")
        await cluster.write(KEYS, _FILL_AT_ONCE)
    told = await ours.snapshot()
    rows = [
        at_most("elections meanwhile", float(told["elections"]), 0, "elections", 0),
        figure("snapshot taken in", told["seconds"], "s", 2),
        figure("slowest write meanwhile", 1000 * told["slowest"], "ms"),
        figure("memory of the leader, ours", await ours.memory_mib(), "MiB", 0),
        figure("memory of the leader, etcd", await etcd.memory_mib(), "MiB", 0),
    ]
    notes = (
        f"After {KEYS} more new keys in each. Ours is the raft process and the agent's side "
        "together; both hold the whole state.",
    )
    return Section(f"Snapshot of {KEYS} keys", rows, notes)


def _percentiles(taken: list[float]) -> str:
    ranked = sorted(taken)
    half, most = (1000 * ranked[int(share * (len(ranked) - 1))] for share in (0.5, 0.99))
    return f"{half:.2f} / {most:.2f} ms"
