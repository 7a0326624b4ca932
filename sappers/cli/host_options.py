"""Options of the commands that work on an inventory's hosts: which hosts, how many at once."""

from __future__ import annotations

from typing import Annotated

import typer

Limit = Annotated[
    str | None,
    typer.Option(
        "--limit",
        "-l",
        metavar="PATTERN",
        help="Work on these only: hosts, groups, Ansible's patterns.",
    ),
]
Check = Annotated[
    bool, typer.Option("--check", "-C", help="Say what would change; change nothing.")
]
Forks = Annotated[int, typer.Option("--forks", "-f", min=1, help="How many hosts at once.")]
