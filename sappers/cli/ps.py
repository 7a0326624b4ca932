"""`sappers-deploy ps`: the guests."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sappers.cli.session import Address, Cluster, Form, Output, open_cluster
from sappers.cli.status_view import guests_table, shown_guests


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
    if output is Output.JSON:
        typer.echo(
            msgspec.json.encode({"workloads": view.workloads, "allocations": guests}).decode()
        )
    elif guests or view.workloads:
        Console().print(guests_table(view, guests), highlight=False)
    else:
        Console(stderr=True).print(
            "no guests; start one with: sappers-deploy run NAME --image IMAGE"
        )
