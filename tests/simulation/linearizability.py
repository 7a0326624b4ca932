"""Is a history of reads, writes and compare-and-sets of one register linearizable?

Wing and Gong's search with Lowe's memory: take any operation that may be the next one, go on with
the rest, and come back when that leads nowhere. A set of operations that were taken together with
the value they led to is looked at once only.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True)
class Operation:
    """What a client asked, and what it was told.

    Attributes:
        value: Written, or read.
        asked_at, answered_at: In one clock; `inf` for what nobody was told the outcome of: such a
            write may take effect at any later time, or never.
        expected: Of a compare-and-set: the value it replaces.
    """

    kind: Literal["read", "write", "set"]
    value: Hashable
    asked_at: float
    answered_at: float
    expected: Hashable = None

    def step(self, register: Hashable) -> tuple[bool, Hashable]:
        """Whether this may happen to a register of this value, and its value afterwards."""
        match self.kind:
            case "read":
                return self.value == register, register
            case "write":
                return True, self.value
        return self.expected == register, self.value


def is_linearizable(history: Sequence[Operation], initial: Hashable = None) -> bool:
    """Whether some order of the operations, each between question and answer, explains them all."""
    seen = {one.value for one in history if one.kind == "read"}
    seen |= {one.expected for one in history if one.kind == "set"}
    told = sorted(
        (
            one
            for one in history
            # What nobody was told the outcome of, and nobody saw, need not have happened.
            if one.answered_at < inf or (one.kind != "read" and one.value in seen)
        ),
        key=lambda one: (one.asked_at, one.answered_at),
    )
    must = sum(1 << place for place, one in enumerate(told) if one.answered_at < inf)
    visited: set[tuple[int, Hashable]] = set()
    stack: list[tuple[int, Hashable]] = [(0, initial)]
    while stack:
        taken, register = stack.pop()
        if taken & must == must:
            return True
        if (taken, register) in visited:
            continue
        visited.add((taken, register))
        first_answer = inf
        for place, one in enumerate(told):
            if one.asked_at > first_answer:
                break
            if taken >> place & 1:
                continue
            first_answer = min(first_answer, one.answered_at)
            happens, after = one.step(register)
            if happens:
                stack.append((taken | 1 << place, after))
    return False
