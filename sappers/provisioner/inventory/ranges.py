"""Host patterns of an inventory line, such as `lab[01:10:2].example.org:2222`, expanded."""

from __future__ import annotations

import ipaddress
import itertools
import math
import re
import string
from collections.abc import Sequence

# More than any inventory means; `[1:1000000000]` is a slip that must not eat the memory.
HOSTS_PER_LINE_MAX = 65_536

_BRACKETED_WITH_PORT = re.compile(r"\[(.+)\]:([0-9]+)")
_WITH_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])+):([0-9]+)")
_RANGE = re.compile(r"[0-9a-zA-Z]*:[0-9a-zA-Z]+(?::[0-9]+)?")
_ANY_RANGE = re.compile(r"\[[^\]]*\]")
_NUMBER = re.compile(r"[0-9]{1,18}")


def expand_host_pattern(pattern: str) -> tuple[tuple[str, ...], int | None]:
    """Host names that a pattern stands for, and the port at its end, if any.

    Raises:
        ValueError: A range or port is malformed; the message says what is wrong.
    """
    place, port = _split_port(pattern)
    if place.endswith(":") and port is None and not _is_ipv6(place):
        raise ValueError("a name cannot end in `:`, which is kept for a port")
    names = expand_ranges(place)
    for name in names:
        if not name or name == "---" or any(c.isspace() or not c.isprintable() for c in name):
            raise ValueError(f"{name!r} is no host name")
    return names, port


def _split_port(pattern: str) -> tuple[str, int | None]:
    # `[::1]:22` is an address with a port, `[1:3]:22` a range with one.
    match = _BRACKETED_WITH_PORT.fullmatch(pattern)
    if match and not _RANGE.fullmatch(match[1]):
        colons = ":" in _ANY_RANGE.sub("", match[1])
        if not colons or _is_ipv6(expand_ranges(match[1])[0]):
            return match[1], _port(match[2])
    if match := _WITH_PORT.fullmatch(pattern):
        return match[1], _port(match[2])
    return pattern, None


def _port(text: str) -> int:
    if not (_NUMBER.fullmatch(text) and 0 < int(text) < 65_536):
        raise ValueError(f"{text} is no port; a port is 1 to 65535")
    return int(text)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def expand_ranges(pattern: str) -> tuple[str, ...]:
    """Every name that a pattern with any number of `[begin:end:step]` stands for, in order.

    Raises:
        ValueError: A bracket or range is malformed, or the pattern stands for too many names.
    """
    parts: list[Sequence[str]] = []
    rest = pattern
    while "[" in rest:
        head, _, tail = rest.partition("[")
        inner, closed, rest = tail.partition("]")
        if not closed:
            raise ValueError("`[` begins a host range that no `]` ends")
        parts += [(head,), _expand_one(inner)]
    parts.append((rest,))
    if math.prod(len(part) for part in parts) > HOSTS_PER_LINE_MAX:
        raise ValueError(f"more than {HOSTS_PER_LINE_MAX} hosts in one pattern")
    return tuple("".join(chosen) for chosen in itertools.product(*parts))


def _expand_one(inner: str) -> Sequence[str]:
    bounds = inner.split(":")
    if len(bounds) not in (2, 3):
        raise ValueError(f"[{inner}]: a host range is begin:end or begin:end:step")
    begin, end = bounds[0] or "0", bounds[1]
    if not end:
        raise ValueError(f"[{inner}]: a host range must have an end")
    step = int(bounds[2]) if len(bounds) == 3 and _NUMBER.fullmatch(bounds[2]) else 0
    if len(bounds) == 2:
        step = 1
    if step < 1:
        raise ValueError(f"[{inner}]: the step of a host range is a number above 0")
    letters = string.ascii_letters
    if len(begin) == len(end) == 1 and begin in letters and end in letters:
        names: Sequence[str] = letters[letters.index(begin) : letters.index(end) + 1 : step]
    elif _NUMBER.fullmatch(begin) and _NUMBER.fullmatch(end):
        names = _expand_numbers(begin, end, step)
    else:
        raise ValueError(f"[{inner}]: a host range goes from number to number or letter to letter")
    if not names:
        raise ValueError(f"[{inner}]: a host range must begin before it ends")
    return names


def _expand_numbers(begin: str, end: str, step: int) -> Sequence[str]:
    width = len(begin) if begin[0] == "0" and len(begin) > 1 else 0
    if width and width != len(end):
        raise ValueError(
            f"[{begin}:{end}]: with leading zeros, both ends of a host range are equally long"
        )
    numbers = range(int(begin), int(end) + 1, step)
    if len(numbers) > HOSTS_PER_LINE_MAX:
        raise ValueError(f"more than {HOSTS_PER_LINE_MAX} hosts in one pattern")
    return [str(number).zfill(width) for number in numbers]
