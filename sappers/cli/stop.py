"""`sappers-deploy stop`: run a workload no more."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from sappers.api.wire import Allocations
from sappers.cli.session import Address, Cluster, WaitSeconds, checked_name, open_cluster
from sappers.cli.waiting import wait_until


def stop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workload's name.")],
    *,
    wait: Annotated[bool, typer.Option(help="Wait until no guest of it runs.")] = True,
    timeout: WaitSeconds = 60.0,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Have the cluster run a workload no more, and wait until its guests have ended."""
    checked_name(name)
    console = Console(stderr=True)
    with open_cluster(cluster, addr) as client:
        written = client.delete_workload(name)
        if wait:
            wait_until(
                lambda: how_stopped(client.allocations(), name, written.index),
                what=name,
                timeout_seconds=timeout,
                hint="the cluster goes on trying: sappers-deploy ps",
                console=console,
            )
    console.print(f"{name} is stopped" if wait else f"{name} is wanted no more", highlight=False)


def how_stopped(found: Allocations, name: str, index: int) -> tuple[bool, str]:
    """Whether nothing of a workload runs as of log index `index`, and what still does."""
    running = [
        one.id for one in found.allocations if one.workload == name and not one.status.is_terminal
    ]
    return found.index >= index and not running, f"stopping {', '.join(running) or 'its guests'}"
