"""`sappers-deploy`: the control machine's command; assembles the sub-commands."""

from __future__ import annotations

import typer

from sappers.cli.bootstrap import bootstrap
from sappers.cli.ending import run_to_the_end
from sappers.cli.events import events
from sappers.cli.image import image_app
from sappers.cli.lab import lab_app
from sappers.cli.logs import logs
from sappers.cli.ps import ps
from sappers.cli.run import run
from sappers.cli.status import status
from sappers.cli.stop import stop

app = typer.Typer(
    name="sappers-deploy",
    help="Turn SSH hosts into a cluster that runs micro-VMs and governs itself.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command()(bootstrap)
app.command()(status)
app.command()(run)
app.command()(ps)
app.command()(logs)
app.command()(stop)
app.command()(events)
app.add_typer(image_app, name="image")
app.add_typer(lab_app)


def main() -> None:
    """Run `sappers-deploy`."""
    run_to_the_end(app)
