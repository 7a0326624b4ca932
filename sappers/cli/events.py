"""`sappers-deploy events`: what happened, from the replicated log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from sappers.cli.session import Address, Cluster, Form, Output, open_cluster
from sappers.cli.status_view import plain
from sappers.errors import ApiError
from sappers.model.event import Event

FOLLOW_SECONDS = 1.0
_KIND_WIDTH = len("allocation.unhealthy")
_ALARMING = ("dead", "failed", "lost", "unhealthy")


def events(
    *,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=1000, help="How many of the newest.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new ones, until Ctrl-C.")
    ] = False,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
) -> None:
    """Print what happened in the cluster; with -f and -o json one JSON object a line."""
    console = Console()
    with open_cluster(cluster, addr) as client:
        found = client.events(limit=lines)
        if output is Output.JSON and not follow:
            typer.echo(msgspec.json.encode(found.events).decode())
            return
        _print(found.events, output, console)
        after = max((event.index for event in found.events), default=0)
        answered = True
        while follow:
            time.sleep(FOLLOW_SECONDS)
            try:
                found = client.events(after=after)
            except ApiError as error:
                if answered:
                    said = plain(f"{error.message}; trying again", "red")
                    Console(stderr=True).print(said, soft_wrap=True)
                answered = False
                continue
            answered = True
            _print(found.events, output, console)
            after = max((event.index for event in found.events), default=after)


def _print(found: Sequence[Event], output: Output, console: Console) -> None:
    if output is Output.TEXT and console.is_terminal:
        if found:
            console.print(render_events(found), highlight=False)
        return
    for event in found:
        if output is Output.JSON:
            typer.echo(msgspec.json.encode(event).decode())
        else:
            console.print(render_event(event), soft_wrap=True, highlight=False)


def render_events(found: Sequence[Event]) -> RenderableType:
    """For people: what does not fit into a line goes on below itself."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, min_width=_KIND_WIDTH)
    grid.add_column(ratio=1)
    for event in found:
        when = datetime.fromtimestamp(event.time).astimezone()
        kind = plain(event.kind, _style(event))
        grid.add_row(f"{when:%m-%d %H:%M:%S}", str(event.index), kind, plain(event.text))
    return grid


def render_event(event: Event) -> Text:
    """One line, for files: when (local time), log index, kind, what."""
    when = datetime.fromtimestamp(event.time).astimezone()
    return Text.assemble(
        (f"{when:%Y-%m-%d %H:%M:%S} ", "dim"),
        f"{event.index:>6} ",
        plain(f"{event.kind:<{_KIND_WIDTH + 2}} ", _style(event)),
        plain(event.text),
    )


def _style(event: Event) -> str:
    return "red" if event.kind.rpartition(".")[2] in _ALARMING else "cyan"
