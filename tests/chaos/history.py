"""Whether a history of a register is linearizable.

Each value is written once, so it is decided in n log n by zones (Gibbons and Korach, "Testing
shared memories", 1997): a value's zone lies between the first end and the last beginning of all
that wrote or read it. Where something ended before something else of the same value began, the
register had that value all the time between, so two such forward zones must not overlap, and no
other zone may lie inside one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

UNKNOWN = math.inf
"""`Operation.ended` of a write that nobody acknowledged: it may take effect at any later time."""
INITIAL = 0
"""What a register that was never written reads as."""


@dataclass(frozen=True)
class Operation:
    """One write or read, seen from its client; seconds of one clock.

    Attributes:
        value: What was written or read.
        ended: When its answer came, or `UNKNOWN`.
    """

    kind: Literal["write", "read"]
    value: int
    began: float
    ended: float


@dataclass(frozen=True)
class _Zone:
    value: int
    first_end: float
    last_begin: float

    @property
    def forward(self) -> bool:
        return self.first_end < self.last_begin

    @property
    def low(self) -> float:
        return min(self.first_end, self.last_begin)

    @property
    def high(self) -> float:
        return max(self.first_end, self.last_begin)


def violations(operations: Iterable[Operation]) -> list[str]:
    """What is wrong with a register's history, in words; nothing when it is linearizable.

    Raises:
        ValueError: A value was written twice, so that nothing can be said.
    """
    groups: dict[int, list[Operation]] = defaultdict(list)
    groups[INITIAL].append(Operation("write", INITIAL, -math.inf, -math.inf))
    for one in operations:
        groups[one.value].append(one)
    wrong: list[str] = []
    zones: list[_Zone] = []
    for value, group in sorted(groups.items()):
        writes = [one for one in group if one.kind == "write"]
        if len(writes) > 1:
            raise ValueError(f"{value} was written {len(writes)} times")
        if not writes:
            wrong.append(f"{value} was read, and nobody wrote it")
            continue
        first_read_end = min((one.ended for one in group if one.kind == "read"), default=UNKNOWN)
        if first_read_end < writes[0].began:
            wrong.append(f"{value} was read before it was written")
        if len(group) == 1 and writes[0].ended == UNKNOWN:
            continue  # it may never have taken effect
        zones.append(_Zone(value, min(one.ended for one in group), max(one.began for one in group)))
    return wrong + _conflicts(zones)


def _conflicts(zones: Iterable[_Zone]) -> list[str]:
    zones = sorted(zones, key=lambda zone: (zone.low, zone.high))
    forward = [zone for zone in zones if zone.forward]
    wrong = [
        f"{before.value} was read after {after.value} was written, or the other way round"
        for before, after in pairwise(forward)
        if after.low < before.high
    ]
    # Forward zones do not overlap now, so the last that began before is the one that may hold it.
    for zone in () if wrong else zones:
        if not zone.forward:
            around = _last_before(forward, zone.low)
            if around is not None and around.low < zone.low and zone.high < around.high:
                wrong.append(f"{around.value} was read after {zone.value} was written over it")
    return wrong


def _last_before(zones: list[_Zone], moment: float) -> _Zone | None:
    low, high = 0, len(zones)
    while low < high:
        middle = (low + high) // 2
        if zones[middle].low < moment:
            low = middle + 1
        else:
            high = middle
    return zones[low - 1] if low else None
