"""`sappers-deploy explain`: how something came to be as it is, from suspicion to health."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from sappers.cli.harmless import local_time
from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import plain
from sappers.decisions.explaining import Phase, in_order, phase_of
from sappers.errors import ConfigError
from sappers.model.event import Event, Story

_PHASE_WIDTH = max(len(phase) for phase in Phase)
_STYLE = {
    Phase.ASKED: "bold",
    Phase.SUSPICION: "red",
    Phase.DECISION: "cyan",
    Phase.ACTION: "yellow",
    Phase.HEALTH: "green",
}


def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A workload, member (name or id), allocation or repair."
        ),
    ],
    *,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
) -> None:
    """Tell how it came to this: suspicion, decision, action, health, each with what it follows."""
    if not re.fullmatch(r"[!-.0-~]{1,128}", name):  # no space, no slash
        raise ConfigError(
            f"{name[:80]!r} is no name",
            hint="sappers-deploy status lists members and workloads, ps -a allocations",
        )
    with open_cluster(cluster, addr) as client:
        story = client.explain(name)
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(story).decode())
        return
    console = Console()
    for line in headlines(story):
        console.print(line, soft_wrap=not console.is_terminal, highlight=False)
    if console.is_terminal:
        console.print(render_story(story), highlight=False)
    else:
        for text in story_lines(story):
            console.print(text, soft_wrap=True, highlight=False)


def headlines(story: Story) -> list[Text]:
    """How it is now."""
    lines = [plain(line, "bold") for line in story.now]
    if not lines:
        lines.append(plain(f"{story.name} is no more; this was", "bold"))
    if not story.events:
        lines.append(Text("nothing of it is on record any more"))
    if story.cut:
        lines.append(Text("older events are left out", "dim"))
    return lines


def render_story(story: Story) -> RenderableType:
    """For people: an empty line before each beginning."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(justify="right", style="dim", no_wrap=True)
    grid.add_column(no_wrap=True, min_width=_PHASE_WIDTH)
    grid.add_column(ratio=1)
    for event, follows_last in in_order(story.events):
        if not event.cause:
            grid.add_row()
        phase = phase_of(event.kind)
        when = local_time(event.time)
        grid.add_row(
            f"{when:%m-%d %H:%M:%S}",
            f"#{event.number}",
            Text(phase, _STYLE[phase]),
            plain(_told(event, follows_last=follows_last)),
        )
    return grid


def story_lines(story: Story) -> list[Text]:
    """For files: a line an event, an empty line before each beginning."""
    lines: list[Text] = []
    for event, follows_last in in_order(story.events):
        if not event.cause:
            lines.append(Text())
        when = local_time(event.time)
        phase = phase_of(event.kind)
        lines.append(
            Text.assemble(
                (f"{when:%Y-%m-%d %H:%M:%S} ", "dim"),
                (f"{'#' + str(event.number):>6} ", "dim"),
                (f"{phase:<{_PHASE_WIDTH}} ", _STYLE[phase]),
                plain(_told(event, follows_last=follows_last)),
            )
        )
    return lines


def _told(event: Event, *, follows_last: bool) -> str:
    """What happened; who wanted it, and what it follows from, where that is not plain to see."""
    text = event.text
    if not event.cause and event.by:
        text += f" ({event.by})"
    if event.cause and not follows_last:
        text += f" ← #{event.cause}"
    return text
