"""`sappers-deploy events`: what happened, from the log and from the members' records of it."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from sappers.api.operator_client import OperatorClient
from sappers.cli.backup_file import open_backup
from sappers.cli.events_verify import verify
from sappers.cli.harmless import local_time
from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import plain
from sappers.errors import ApiError, ConfigError
from sappers.model.event import Event, EventFilter
from sappers.model.member import Member

FOLLOW_SECONDS = 1.0
LINES, PAGE = 20, 1000
_KIND_WIDTH = len("allocation.unhealthy")
_ALARMING = ("dead", "failed", "lost", "unhealthy")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

events_app = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)
events_app.command()(verify)


@events_app.callback()
def events(
    context: typer.Context,
    *,
    lines: Annotated[
        int | None,
        typer.Option(
            "--lines", "-n", min=1, max=PAGE, help="How many of the newest; 20, or all --since."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new ones, until Ctrl-C.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="AGO|TIME", help="Such as 90s, 30m, 2h, 7d, or 2026-11-26T14:30."),
    ] = None,
    workload: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this workload and its allocations.")
    ] = None,
    member: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this member, by name or id.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="Such as member.dead, or member for all.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a backup, not of a cluster.")
    ] = None,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
) -> None:
    """Print what happened in the cluster; with -f and -o json one JSON object a line."""
    if context.invoked_subcommand is not None:
        return
    if workload and member:
        raise ConfigError("--workload and --member: one of them at a time")
    start = parse_since(since, time.time()) if since is not None else 0.0
    wanted = EventFilter(since=start, subject=workload or "", kind=kind or "")
    console = Console()
    if file is not None:
        if follow:
            raise ConfigError("--file and --follow: nothing is added to a backup")
        limit = None if since and lines is None else lines or LINES
        with open_backup(file) as saved:
            if member:
                wanted = _of_member(wanted, [*saved.state.members.values()], member)
            found = (event for event in saved.record if wanted.matches(event))
            shown = list(deque(found, limit))
        if output is Output.JSON:
            typer.echo(msgspec.json.encode(shown).decode())
        else:
            _print(shown, output, console)
        return
    with open_cluster(cluster, addr) as client:
        if member:
            wanted = _of_member(wanted, [one.member for one in client.view().members], member)
        # Before the rest: what happens between two calls must be in the second or follow it.
        newest = client.events(limit=1).events if follow else ()
        told = _find(client, wanted, lines)
        if output is Output.JSON and not follow:
            typer.echo(msgspec.json.encode(told).decode())
            return
        _print(told, output, console)
        if follow:
            _follow(client, wanted, (*told, *newest), output, console)


def parse_since(text: str, now: float) -> float:
    """The Unix time that is meant by `2h` or by a date.

    Raises:
        ConfigError: It is neither.
    """
    if (span := _SPAN.fullmatch(text)) is not None:
        return max(0.0, now - float(span[1]) * _UNIT_SECONDS[span[2]])
    try:
        return max(0.0, datetime.fromisoformat(text).astimezone().timestamp())
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"--since {text}: neither a time ago nor a date",
            hint="say 90s, 30m, 2h, 7d, or 2026-11-26, or 2026-11-26T14:30",
        ) from error


def _of_member(wanted: EventFilter, members: Sequence[Member], name: str) -> EventFilter:
    for one in members:
        if name in (one.id, one.name):
            return msgspec.structs.replace(wanted, subject=one.id)
    names = ", ".join(one.name for one in members)
    raise ConfigError(f"--member {name}: no such member", hint=f"there are {names}")


def _find(client: OperatorClient, wanted: EventFilter, lines: int | None) -> tuple[Event, ...]:
    """What is asked for: the newest, or all since a time, page by page."""
    if not wanted.since or lines is not None:
        limit = lines or LINES
        newest = msgspec.structs.replace(wanted, since=0.0)
        found = client.events(limit=limit, wanted=newest).events
        return tuple(event for event in found if wanted.matches(event))
    return tuple(_pages(client, wanted))


def _pages(client: OperatorClient, wanted: EventFilter) -> Iterator[Event]:
    while True:
        page = client.events(limit=PAGE, wanted=wanted).events
        yield from page
        if len(page) < PAGE:
            return
        wanted = msgspec.structs.replace(wanted, first=page[-1].number + 1)


def _follow(
    client: OperatorClient,
    wanted: EventFilter,
    known: Sequence[Event],
    output: Output,
    console: Console,
) -> None:
    answered, number = True, max((event.number for event in known), default=0)
    index = max((event.index for event in known), default=0)
    while True:
        time.sleep(FOLLOW_SECONDS)
        try:
            if number:
                found = client.events(wanted=EventFilter(first=number + 1)).events
            else:  # a cluster whose events have none yet
                found = client.events(after=index).events
        except ApiError as error:
            if answered:
                said = plain(f"{error.message}; trying again", "red")
                Console(stderr=True).print(said, soft_wrap=True)
            answered = False
            continue
        answered = True
        _print([event for event in found if wanted.matches(event)], output, console)
        number = max((event.number for event in found), default=number)
        index = max((event.index for event in found), default=index)


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
        when = local_time(event.time)
        kind = plain(event.kind, _style(event))
        grid.add_row(f"{when:%m-%d %H:%M:%S}", str(event.index), kind, plain(_told(event)))
    return grid


def render_event(event: Event) -> Text:
    """One line, for files: when (local time), log index, kind, what."""
    when = local_time(event.time)
    return Text.assemble(
        (f"{when:%Y-%m-%d %H:%M:%S} ", "dim"),
        f"{event.index:>6} ",
        plain(f"{event.kind:<{_KIND_WIDTH + 2}} ", _style(event)),
        plain(_told(event)),
    )


def _told(event: Event) -> str:
    """What happened; and who wanted it, where that was no agent."""
    return f"{event.text} ({event.by})" if event.by.startswith("operator/") else event.text


def _style(event: Event) -> str:
    return "red" if event.kind.rpartition(".")[2] in _ALARMING else "cyan"
