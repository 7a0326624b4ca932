"""`sappers-deploy`: the control machine's command; assembles the sub-commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from sappers.cli.ansible_cfg import HeedsAnsibleCfg
from sappers.cli.ending import run_to_the_end
from sappers.cli.help_text import reflowed
from sappers.cli.late import add_commands
from sappers.cli.version import version_option

EPILOG = """
[bold]Files.[/bold] What this machine knows is in ~/.local/share/sappers ($XDG_DATA_HOME/sappers, or
$SAPPERS_HOME): clusters/NAME/ (authority, operator's certificate, shared keys: back them up),
images/, image-signing.key, labs/. ~/.cache/sappers ($SAPPERS_CACHE) may be deleted while no lab
runs.

[bold]Exit codes.[/bold] 0 done · 1 an error: the message says what, where, and what to do · 2 a
host, or a task on it, failed; bootstrap: or the cluster is not complete · 4 a host, or every
member, is unreachable · 5 the cluster has no quorum · 64 wrong usage · 130 interrupted.
"""

_COMMANDS = {
    name: f"sappers.cli.{name}:{name}"
    for name in (
        *("bootstrap", "status", "run", "ps", "logs", "stop", "explain", "listen", "rekey"),
        *("backup", "restore", "adhoc", "inventory", "module"),
    )
} | {name: f"sappers.cli.cordon:{name}" for name in ("cordon", "drain", "uncordon", "forget")}
_GROUPS = {
    "events": "sappers.cli.events:events_app",
    "image": "sappers.cli.image:image_app",
    "lab": "sappers.cli.lab:lab_app",
    "playbook": "sappers.cli.playbook:playbook_app",
    "raft": "sappers.cli.raft:raft_app",
}


def deploy_app(words: Sequence[str] = ()) -> typer.Typer:
    """The command, able to do what these words ask for; everything when they ask for nothing."""
    app = typer.Typer(
        name="sappers-deploy",
        help="Turn SSH hosts into a cluster that runs micro-VMs and governs itself.",
        epilog=reflowed(EPILOG),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def _(version: Annotated[bool | None, version_option("sappers-deploy")] = None) -> None:
        del version  # its callback has done all

    add_commands(app, _COMMANDS, _GROUPS, words, {"adhoc": HeedsAnsibleCfg})
    return app


def main() -> None:
    """Run `sappers-deploy`."""
    run_to_the_end(deploy_app(sys.argv[1:]))
