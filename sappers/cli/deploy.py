"""`sappers-deploy`: the control machine's command; assembles the sub-commands."""

from __future__ import annotations

import typer

from sappers.cli.bootstrap import bootstrap
from sappers.cli.ending import run_to_the_end
from sappers.cli.events import events
from sappers.cli.help_text import reflowed
from sappers.cli.image import image_app
from sappers.cli.lab import lab_app
from sappers.cli.listen import listen
from sappers.cli.logs import logs
from sappers.cli.ps import ps
from sappers.cli.run import run
from sappers.cli.status import status
from sappers.cli.stop import stop

EPILOG = """
[bold]Files.[/bold] What this machine knows is in ~/.local/share/sappers ($XDG_DATA_HOME/sappers, or
$SAPPERS_HOME): clusters/NAME/ (authority, operator's certificate, shared keys: back them up),
images/, image-signing.key, labs/. ~/.cache/sappers ($SAPPERS_CACHE) may be deleted while no lab
runs.

[bold]Exit codes.[/bold] 0 done · 1 an error: the message says what, where, and what to do · 2
bootstrap: a host failed, or the cluster is not complete · 4 a host, or every member, is
unreachable · 5 the cluster has no quorum · 64 wrong usage · 130 interrupted.
"""

app = typer.Typer(
    name="sappers-deploy",
    help="Turn SSH hosts into a cluster that runs micro-VMs and governs itself.",
    epilog=reflowed(EPILOG),
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
app.command()(listen)
app.add_typer(image_app, name="image")
app.add_typer(lab_app)


def main() -> None:
    """Run `sappers-deploy`."""
    run_to_the_end(app)
