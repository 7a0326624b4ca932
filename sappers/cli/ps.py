"""`sappers-deploy ps`: the guests."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import as_answered, guests_table, is_old, plain, shown_guests


def ps(
    *,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Those that ended, too.")] = False,
) -> None:
    """List the guests with their health, where they are, and why."""
    with open_cluster(cluster, addr) as client:
        view = client.view()
    guests = shown_guests(view, all_of_them=everything)
    if is_old(view):
        Console(stderr=True).print(plain(as_answered(view), "yellow"), soft_wrap=True)
    if output is Output.JSON:
        told = {"workloads": view.workloads, "allocations": guests, "age_seconds": view.age_seconds}
        typer.echo(msgspec.json.encode(told).decode())
    elif guests or view.workloads:
        Console().print(guests_table(view, guests), highlight=False)
    else:
        Console(stderr=True).print(
            "no guests; start one with: sappers-deploy run NAME --image IMAGE"
        )
