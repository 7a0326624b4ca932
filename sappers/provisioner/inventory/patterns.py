"""Ansible's host patterns, as `--limit` takes them: `web,!lab2`, `web:&voters`, `lab*[0:1]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate

_SUBSCRIPT = re.compile(r"(.+)\[(?:(-?[0-9]+)|([0-9]+)[:-]([0-9]*))\]")
_COLON_SEPARATED = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")


def select_hosts(
    pattern: str,
    hosts: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    here: Sequence[str] = (),
) -> tuple[str, ...]:
    """Names of the hosts that a pattern names, in its order.

    Parts without a sign add up (none: all hosts), then `&` parts intersect, then `!` parts take
    away, wherever they stand. A part is a host, a group, a glob of either, or `~` and a regular
    expression; `[n]` or `[from:to]` behind it picks from its hosts by position.

    Args:
        here: Names that this machine has where no host or group has them. It is in no group and
            meets no glob; of several names in a pattern it has the first.

    Raises:
        ValueError: A part names nothing, or is malformed.
    """
    known = [*hosts, *here]
    parts = [part.strip() for part in split_pattern(pattern, known) if part.strip()]
    if not parts:
        raise ValueError("it is empty")
    added = [part for part in parts if part[0] not in "&!"] or ["all"]
    this_machine: list[str] = []

    def match(part: str) -> Sequence[str]:
        name = _without_subscript(part)
        if name not in here or name in hosts or name in groups:
            return _match(part, hosts, groups)
        this_machine.append(name)
        return _match(part.replace(name, this_machine[0], 1), this_machine[:1], {})

    chosen = dict.fromkeys(host for part in added for host in match(part))
    kept = set(chosen)
    for part in parts:
        if part[0] == "&":
            kept &= set(match(part[1:]))
        elif part[0] == "!":
            kept -= set(match(part[1:]))
    return tuple(host for host in chosen if host in kept)


def _without_subscript(part: str) -> str:
    found = _SUBSCRIPT.fullmatch(part)
    return found[1] if found else part


def split_pattern(pattern: str, hosts: Iterable[str]) -> list[str]:
    """Parts of a pattern: by commas, else by colons that are not in brackets or in an address."""
    if "," in pattern:
        return pattern.split(",")
    if pattern.lstrip("!&") in hosts or pattern.startswith("~"):
        return [pattern]
    return _COLON_SEPARATED.findall(pattern)


def _match(part: str, hosts: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Sequence[str]:
    if part in hosts:
        return [part]
    if not part.startswith("~") and (match := _SUBSCRIPT.fullmatch(part)):
        found = _match_name(match[1], hosts, groups)
        if found is not None:
            return _pick(part, found, match)
    found = _match_name(part, hosts, groups)
    if found is None:
        raise ValueError(f"no host or group is named {part!r}")
    return found


def _match_name(
    name: str, hosts: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> Sequence[str] | None:
    """Hosts by the name or pattern of a group or host, in order; None when nothing is so named."""
    expression = _compile(name)
    matching = [group for group in groups if expression.match(group)]
    found = dict.fromkeys(host for group in matching for host in groups[group])
    if not matching or name[:1] == "~" or any(sign in name for sign in ".?*["):
        named = [host for host in hosts if expression.match(host)]
        if not named and not matching:
            return None
        found |= dict.fromkeys(named)
    return list(found)


def _compile(name: str) -> re.Pattern[str]:
    if not name.startswith("~"):
        return re.compile(translate(name))
    try:
        return re.compile(name[1:])
    except re.error as error:
        raise ValueError(f"{name!r} is no regular expression: {error}") from error


def _pick(part: str, found: Sequence[str], match: re.Match[str]) -> Sequence[str]:
    if match[2] is None:
        picked = found[int(match[3]) : int(match[4]) + 1 if match[4] else None]
    else:
        index = int(match[2])
        picked = [found[index]] if -len(found) <= index < len(found) else []
    if not picked:
        raise ValueError(f"{part!r} picks none of {len(found)} hosts")
    return picked
