"""`sappers-deploy logs`: what a guest printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from sappers.api.wire import LOG_TAIL_BYTES_MAX
from sappers.cli.harmless import harmless
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.errors import ApiError
from sappers.model.allocation import Allocation

LINE_BYTES = 256


def logs(
    name: Annotated[
        str, typer.Argument(metavar="NAME|ALLOCATION", help="A workload, or one guest of it.")
    ],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines.")] = 100,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Print the end of what a guest printed, from whichever member it runs on."""
    tail_bytes = min(LOG_TAIL_BYTES_MAX, max(64 * 1024, lines * LINE_BYTES))
    with open_cluster(cluster, addr) as client:
        chosen = choose_guests(client.allocations().allocations, name)
        for one in chosen:
            text = last_lines(client.guest_log(one.id, tail_bytes), lines)
            if not text:
                typer.echo(f"{one.id} has printed nothing", err=True)
            if len(chosen) > 1:
                typer.echo(f"==> {one.id} <==")
            # A guest is not trusted: on a terminal it may print text, but not steer it.
            typer.echo(harmless(text) if sys.stdout.isatty() else text, nl=False)


def choose_guests(allocations: Sequence[Allocation], name: str) -> tuple[Allocation, ...]:
    """The allocation of this id; else the workload's living ones; else its latest.

    Raises:
        ApiError: There is none.
    """
    for one in allocations:
        if one.id == name:
            return (one,)
    copies = [one for one in allocations if one.workload == name]
    living = tuple(one for one in copies if not one.status.is_terminal)
    if living:
        return living
    if not copies:
        raise ApiError(
            f"no workload or allocation {name} has a guest",
            status=404,
            hint="sappers-deploy ps -a lists them",
        )
    return (max(copies, key=lambda one: (one.changed_at, one.id)),)


def last_lines(text: str, count: int) -> str:
    """The last `count` lines, ended by a newline."""
    kept = text.splitlines()[-count:]
    return "".join(f"{line}\n" for line in kept)
