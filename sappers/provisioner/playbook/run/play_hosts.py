"""Which hosts a play is run on, in which order, and in which batches (`serial`)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from sappers.errors import InventoryError
from sappers.provisioner.inventory.inventory import Host, Inventory
from sappers.provisioner.playbook.language.model import Play
from sappers.provisioner.playbook.run.links import local_host
from sappers.provisioner.playbook.run.play_vars import scope_of
from sappers.provisioner.playbook.run.run import Run
from sappers.provisioner.source import place_of


def hosts_of(run: Run, play: Play, *, may_be_none: bool) -> list[Host]:
    """The hosts that a play names, within the limit, in its order.

    Args:
        may_be_none: What names nothing is no mistake: tasks may make groups.

    Raises:
        PlaybookError: Its pattern is malformed, or names nothing.
    """
    wanted = run.templates.render(play.hosts, scope_of(run, play), play.place)
    parts = wanted if isinstance(wanted, list) else [wanted]
    pattern = ",".join(str(part) for part in parts)
    hosts: Sequence[Host]
    inventory = run.inventories.of(play.folder)
    if pattern in ("localhost", "127.0.0.1") and pattern not in run.states:
        hosts = [local_host(pattern)]
    elif pattern == "localhost" and not any(h.name == pattern for h in inventory.hosts):
        hosts = [local_host()]
    else:
        limit = {host.name for host in inventory.select(run.options.limit)}
        named = _named(play, inventory, pattern, may_be_none=may_be_none)
        hosts = [one for one in named if one.name in limit]
    return _ordered(list(hosts), play.order)


def _named(play: Play, inventory: Inventory, pattern: str, *, may_be_none: bool) -> Sequence[Host]:
    try:
        return inventory.in_order_of(pattern)
    except InventoryError as error:
        if may_be_none:
            return ()
        where = place_of(play.hosts, play.place)
        raise where.error(error.message, hint=error.hint) from error


def _ordered(hosts: list[Host], order: str) -> list[Host]:
    if "sorted" in order:
        hosts.sort(key=lambda host: host.name)
    if order.startswith("reverse"):
        hosts.reverse()
    if order == "shuffle":
        random.SystemRandom().shuffle(hosts)
    return hosts


def batches(run: Run, play: Play, hosts: Sequence[Host]) -> list[list[Host]]:
    """The hosts in batches: sizes or percentages in turn, the last for all that are left.

    Raises:
        PlaybookError: A size is none.
    """
    sizes = [_size(play, one, len(hosts)) for one in _serial(run, play)] or [len(hosts)]
    found: list[list[Host]] = []
    left = list(hosts)
    while left:
        size = sizes[min(len(found), len(sizes) - 1)] or len(left)
        found.append(left[:size])
        left = left[size:]
    return found


def _serial(run: Run, play: Play) -> list[Any]:
    """The sizes of batches; one of those that are written may be a list of them."""
    sizes = run.templates.render(play.serial, scope_of(run, play), play.place)
    return [size for one in sizes for size in (one if isinstance(one, list) else [one])]


def _size(play: Play, one: Any, count: int) -> int:
    text = str(one).strip()
    try:
        if text.endswith("%"):
            return max(1, int(float(text[:-1]) * count / 100))
        return int(text)
    except ValueError:
        message = f"serial: {one!r} is no number of hosts"
        raise place_of(one, play.place).error(message) from None
