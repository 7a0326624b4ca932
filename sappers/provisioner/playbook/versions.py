"""Compares versions loosely: numbers as numbers, words as words."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from itertools import zip_longest

_PARTS = re.compile(r"\d+|[a-z]+", re.IGNORECASE)
_OPERATORS: Mapping[str, Callable[[int, int], bool]] = {
    **dict.fromkeys(("==", "=", "eq"), operator.eq),
    **dict.fromkeys(("!=", "<>", "ne"), operator.ne),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys((">=", "ge"), operator.ge),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys(("<=", "le"), operator.le),
}


def compare_versions(one: str, other: str, operation: str) -> bool:
    """Whether `one operation other` holds, for example `1.10 >= 1.9`.

    Raises:
        ValueError: There is no such operation.
    """
    if operation not in _OPERATORS:
        raise ValueError(f"{operation!r} compares no versions: {', '.join(_OPERATORS)}")
    return _OPERATORS[operation](_order(one, other), 0)


def _order(one: str, other: str) -> int:
    for left, right in zip_longest(_PARTS.findall(one), _PARTS.findall(other)):
        if left == right:
            continue
        if left is None or right is None:  # more is newer, as in 1.0 and 1.0.1
            return -1 if left is None else 1
        if left.isdigit() and right.isdigit():
            if int(left) != int(right):
                return 1 if int(left) > int(right) else -1
            continue
        if left.isdigit() != right.isdigit():
            return 1 if left.isdigit() else -1
        return 1 if left > right else -1
    return 0
