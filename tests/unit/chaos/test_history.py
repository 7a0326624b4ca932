"""The verdict on a register's history, held against trying every order."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.history import INITIAL, UNKNOWN, Operation, violations


def write(value: int, began: float, ended: float) -> Operation:
    return Operation("write", value, began, ended)


def read(value: int, began: float, ended: float) -> Operation:
    return Operation("read", value, began, ended)


def some_order_explains(operations: list[Operation]) -> bool:
    """By definition: an order that keeps what ended before what began, with reads that fit.

    Unacknowledged writes may be left out.
    """
    certain = [one for one in operations if one.ended != UNKNOWN]
    maybe = [one for one in operations if one.ended == UNKNOWN]
    for taken in range(2 ** len(maybe)):
        chosen = certain + [one for bit, one in enumerate(maybe) if taken >> bit & 1]
        if any(_fits(order) for order in permutations(chosen)):
            return True
    return False


def _fits(order: tuple[Operation, ...]) -> bool:
    value = INITIAL
    for place, one in enumerate(order):
        if any(later.ended < one.began for later in order[place + 1 :]):
            return False
        if one.kind == "write":
            value = one.value
        elif one.value != value:
            return False
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    moments = draw(st.permutations(range(12)))
    operations = []
    for number in range(draw(st.integers(1, 6))):
        began, ended = sorted(moments[2 * number : 2 * number + 2])
        if draw(st.booleans()):
            unknown = draw(st.integers(0, 3)) == 0
            operations.append(write(number + 1, began, UNKNOWN if unknown else ended))
        else:
            operations.append(read(draw(st.integers(0, 6)), began, ended))
    return operations


@given(histories())
def test_the_verdict_is_that_of_trying_every_order(operations: list[Operation]):
    assert (not violations(operations)) == some_order_explains(operations)


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        ([write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)], "1 was read after 2"),
        ([write(1, 0, 1), read(0, 2, 3)], "0 was read after 1"),
        ([read(7, 0, 1)], "nobody wrote it"),
        ([read(1, 0, 1), write(1, 2, 3)], "before it was written"),
        ([write(1, 0, 9), read(1, 1, 2), read(0, 3, 4)], "0 was read after 1"),
    ],
)
def test_what_is_wrong_is_said(operations: list[Operation], said: str):
    assert said in " ".join(violations(operations))


def test_a_write_that_nobody_acknowledged_may_come_late_or_never():
    late = [write(1, 0, UNKNOWN), write(2, 1, 2), read(2, 3, 4), read(1, 5, 6)]
    assert violations(late) == []
    assert violations([write(1, 0, UNKNOWN), read(0, 5, 6)]) == []
    assert violations([*late, read(2, 7, 8)]) != []


def test_a_value_written_twice_is_no_history():
    with pytest.raises(ValueError, match="written 2 times"):
        violations([write(1, 0, 1), write(1, 2, math.inf)])
