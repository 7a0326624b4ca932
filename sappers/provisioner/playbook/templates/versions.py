"""Compares versions: loosely, strictly, by semantic versioning, and as Python's packages do."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

_PARTS = re.compile(r"(\d+|[a-z]+|\.)")
_STRICT = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:([ab])(\d+))?", re.ASCII)
_NUMBER, _WORD = r"(?:0|[1-9]\d*)", r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMANTIC = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_WORD}(?:\.{_WORD})*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("==", "=", "eq"), operator.eq),
    **dict.fromkeys(("!=", "<>", "ne"), operator.ne),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys((">=", "ge"), operator.ge),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys(("<=", "le"), operator.le),
}


def compare_versions(one: str, other: str, operation: str, kind: str = "loose") -> bool:
    """Whether `one operation other` holds, for example `1.10 >= 1.9`.

    Raises:
        ValueError: There is no such operation or kind, or one is no version of that kind.
    """
    if operation not in _OPERATORS:
        raise ValueError(f"{operation!r} compares no versions: {', '.join(_OPERATORS)}")
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is no kind of versions: {', '.join(_KINDS)}")
    try:
        return _OPERATORS[operation](_KINDS[kind](one), _KINDS[kind](other))
    except TypeError as error:
        raise ValueError(f"{one!r} and {other!r} cannot be compared: {error}") from error


def _loose(version: str) -> list[int | str]:
    """Numbers as numbers, words as words; a longer one is newer."""
    parts = (part for part in _PARTS.split(version) if part and part != ".")
    return [int(part) if part.isdecimal() else part for part in parts]


def _strict(version: str) -> tuple[Any, ...]:
    """Two or three numbers, and one behind `a` or `b` for what comes before."""
    match = _STRICT.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is no strict version")
    major, minor, patch, letter, number = match.groups()
    before = (0, letter, int(number)) if letter else (1,)
    return (int(major), int(minor), int(patch or 0), before)


def _semantic(version: str) -> tuple[Any, ...]:
    """By semver.org; what is behind `+` does not count."""
    match = _SEMANTIC.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is no semantic version")
    *core, before = match.groups()
    words = [(0, int(w), "") if w.isdecimal() else (1, 0, w) for w in (before or "").split(".")]
    return (*map(int, core), (0, words) if before else (1,))


def _pep440(version: str) -> Any:
    from packaging.version import Version  # late: few playbooks ask

    return Version(version)


_KINDS: Mapping[str, Callable[[str], Any]] = {
    "loose": _loose, "strict": _strict, "semver": _semantic, "semantic": _semantic,
    "pep440": _pep440,
}  # fmt: skip
