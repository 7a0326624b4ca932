"""`sappers-deploy status`: the cluster at a glance, from any living member."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from sappers.api.operator_client import OperatorClient
from sappers.cli.exit_codes import ExitCode
from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import is_old, plain, render_status
from sappers.errors import ApiError
from sappers.model.view import ClusterView

WATCH_SECONDS = 1.0


def status(
    *,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again every second, until Ctrl-C.")
    ] = False,
) -> None:
    """Show members, leader, hub and guests, and what a person must do."""
    with open_cluster(cluster, addr) as client:
        if watch:
            _watch(client, output)
        view = client.view()
    _show(view, output, Console())
    if not view.has_quorum:
        raise typer.Exit(ExitCode.NO_QUORUM)


def _watch(client: OperatorClient, output: Output) -> None:
    """Look again and again. On a terminal in place; else whenever something has changed."""
    console = Console()
    if output is Output.TEXT and console.is_terminal:
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                live.update(_look(client), refresh=True)
                time.sleep(WATCH_SECONDS)
    before: tuple[ClusterView, bool] | ApiError | None = None
    while True:
        try:
            view = client.view()
            # Its age changes each time; that it has become old is news.
            told = msgspec.structs.replace(view, age_seconds=None), is_old(view)
            if told != before:
                _show(view, output, console)
                before = told
        except ApiError as error:
            if not isinstance(before, ApiError):
                Console(stderr=True).print(render_trouble(error), soft_wrap=True)
                before = error
        time.sleep(WATCH_SECONDS)


def _look(client: OperatorClient) -> RenderableType:
    try:
        return render_status(client.view())
    except ApiError as error:
        return render_trouble(error)


def render_trouble(error: ApiError) -> RenderableType:
    """What stands there while nobody answers."""
    hint = [plain(error.hint)] if error.hint else []
    return Group(plain(error.message, "bold red"), *hint, Text("trying again", "dim"))


def _show(view: ClusterView, output: Output, console: Console) -> None:
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(view).decode())
    else:
        console.print(render_status(view), highlight=False)
