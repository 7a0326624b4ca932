"""Which hosts a play is run on, in which order, and in which batches (`serial`)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from sappers.errors import InventoryError
from sappers.provisioner.inventory.inventory import Host, Inventory
from sappers.provisioner.playbook.language.load_inherited import as_tuple
from sappers.provisioner.playbook.language.model import Play
from sappers.provisioner.playbook.run.play_vars import scope_of
from sappers.provisioner.playbook.run.run import Run
from sappers.provisioner.source import Place, holds_template, place_of


def hosts_of(run: Run, play: Play, *, may_be_none: bool) -> list[Host]:
    """The hosts that a play names, within the limit, as its pattern has them.

    Args:
        may_be_none: What names nothing is no mistake: tasks may make groups.

    Raises:
        PlaybookError: Its pattern is malformed, or names nothing.
    """
    wanted = run.templates.render(play.hosts, scope_of(run, play), play.place)
    parts = wanted if isinstance(wanted, list) else [wanted]
    pattern = ",".join(str(part) for part in parts)
    inventory = run.inventories.of(play.folder)
    hosts = _named(play, inventory, pattern, may_be_none=may_be_none)
    if run.options.limit is not None:
        limit = {host.name for host in inventory.in_order_of(run.options.limit)}
        hosts = [one for one in hosts if one.name in limit]
    return list(hosts)


def _named(play: Play, inventory: Inventory, pattern: str, *, may_be_none: bool) -> Sequence[Host]:
    try:
        return inventory.in_order_of(pattern)
    except InventoryError as error:
        if may_be_none:
            return ()
        where = place_of(play.hosts, play.place)
        raise where.error(error.message, hint=error.hint) from error


def _ordered(hosts: Sequence[Host], order: str) -> list[Host]:
    ordered = list(hosts)
    if "sorted" in order:
        ordered.sort(key=lambda host: host.name)
    if order.startswith("reverse"):
        ordered.reverse()
    if order == "shuffle":
        random.SystemRandom().shuffle(ordered)
    return ordered


def batches(run: Run, play: Play, hosts: Sequence[Host]) -> list[list[Host]]:
    """The hosts, in the play's order, in batches.

    Sizes or percentages count in turn, the last for all that are left.

    Raises:
        PlaybookError: A size is none.
    """
    scope = scope_of(run, play)
    sizes: list[int] = []
    for one, place in _serial(play):
        rendered = run.templates.render(one, scope, place)  # one may yield a list of them
        sizes += [_size(size, len(hosts), place) for size in as_tuple(rendered)]
    found: list[list[Host]] = []
    left = _ordered(hosts, play.order)
    while left:
        size = sizes[min(len(found), len(sizes) - 1)] if sizes else 0
        found.append(left[:size] if size > 0 else left)
        left = left[len(found[-1]) :]
    return found


def check_serial(play: Play) -> None:
    """Refuse sizes of batches that no variable decides and that are none. Raises PlaybookError."""
    for one, place in _serial(play):
        if not holds_template(one):
            _size(one, 1, place)


def _serial(play: Play) -> list[tuple[Any, Place]]:
    """What is written for sizes of batches, each with its place."""
    whole = place_of(play.serial, play.place)
    return [(one, place_of(one, whole)) for one in as_tuple(play.serial)]


def _size(one: Any, count: int, place: Place) -> int:
    """How many hosts; 0 or fewer: all that are left."""
    text = str(one).strip()
    try:
        if text.endswith("%"):
            return int(float(text[:-1]) * count / 100) or 1
        return int(text)
    except (ValueError, OverflowError):
        raise place.error(
            f"serial: {one!r} is no number of hosts",
            hint="a number, a percentage as `30%`, or a list of these",
        ) from None
