"""Files that a host loses from its disk while it has no power: one, some, or the disk itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sappers.consensus.journal import _APPEND, _BODY, _BOUND_KIND, _FILE_MAGIC, _HEAD
from sappers.consensus.journal import _body_at as body_at
from sappers.consensus.journal import _bound_in as bound_in
from sappers.consensus.sealed import unseal
from tests.simulation.disk import SimulatedDisk

# What it had; whether it may have forgotten anything by it.
Loss = Callable[[SimulatedDisk, str, random.Random], bool]


def _without(*names: str) -> Loss:
    def lose(disk: SimulatedDisk, host: str, _: random.Random) -> bool:
        lost = [f"{host}/{name}" for name in names if disk.exists(Path(f"{host}/{name}"))]
        for path in lost:
            disk.remove(Path(path))
        return bool(lost)

    return lose


def _everything(disk: SimulatedDisk, _: str, __: random.Random) -> bool:
    there = disk.names("")
    for path in there:
        disk.remove(Path(path))
    return bool(there)


def _raft_folder(disk: SimulatedDisk, host: str, _: random.Random) -> bool:
    there = disk.names(f"{host}/raft/")
    for path in there:
        disk.remove(Path(path))
    return bool(there)


def _snapshot(disk: SimulatedDisk, host: str, _: random.Random) -> bool:
    """It forgets nothing by it while the journal begins where the log does."""
    there = disk.exists(Path(f"{host}/raft/snapshot"))
    disk.remove(Path(f"{host}/raft/snapshot"))
    kept = [index for kind, index, _ in _records(disk, host) if kind == _APPEND]
    return there and kept[:1] != [1]


def _end_of_journal(disk: SimulatedDisk, host: str, chance: random.Random) -> bool:
    """All from some byte on, which is before the end of what was committed and on disk."""
    end = _needed_bytes(disk, host)
    if not end:
        return False
    stored = disk._stored(Path(f"{host}/raft/journal"))
    cut = chance.randrange(end)
    was_zeroed = chance.random() < 0.5
    for data in (stored.data, stored.on_disk):
        data[cut:] = bytes(len(data) - cut) if was_zeroed else b""
    stored.dirty_from = len(stored.data)
    return True


def _middle_of_journal(disk: SimulatedDisk, host: str, chance: random.Random) -> bool:
    """A few bytes are zeros, as where a sector cannot be read any more."""
    end = _needed_bytes(disk, host)
    if not end:
        return False
    stored = disk._stored(Path(f"{host}/raft/journal"))
    first = chance.randrange(end)
    last = min(end, first + chance.choice((1, 30, 512)))
    if not any(stored.data[first:last]):
        return False
    for data in (stored.data, stored.on_disk):
        data[first:last] = bytes(last - first)
    return True


def _needed_bytes(disk: SimulatedDisk, host: str) -> int:
    """Up to where a journal must be whole, by what it says itself; 0 where it does not.

    What it synced in the last second before may be lost unnoticed; see ADR 53.
    """
    bound = Path(f"{host}/raft/bound")
    if not disk.exists(bound):
        return 0
    noted = bound_in(unseal(_BOUND_KIND, disk.read(bound), bound, "")).index
    ends = [end for kind, index, end in _records(disk, host) if (kind, index) == (_APPEND, noted)]
    return ends[-1] if ends else 0


def _records(disk: SimulatedDisk, host: str) -> Iterator[tuple[bytes, int, int]]:
    """Kind, index and last byte of each record of a journal, if there is one."""
    journal = Path(f"{host}/raft/journal")
    data = disk.read(journal) if disk.exists(journal) else b""
    offset = len(_FILE_MAGIC)
    while (body := body_at(data, offset)) is not None:
        kind, index, _, _ = _BODY.unpack_from(body)
        offset += _HEAD.size + len(body)
        yield kind, index, offset


LOSSES: Mapping[str, Loss] = {
    "its genesis": _without("genesis.json"),
    "its term and vote": _without("raft/term"),
    "its journal": _without("raft/journal"),
    "its snapshot": _snapshot,
    "its raft folder": _raft_folder,
    "its genesis and raft folder": lambda *all_: (
        _without("genesis.json")(*all_) | _raft_folder(*all_)
    ),
    "the end of its journal": _end_of_journal,
    "a part of its journal": _middle_of_journal,
    "its disk": _everything,
}
