"""`--version`, the same for both commands."""

from __future__ import annotations

from typing import Any

import typer

from sappers import __version__


def version_option(command: str) -> Any:
    """An option that says the version and ends the command."""

    def show(value: bool) -> None:  # noqa: FBT001 — the signature that typer asks for
        if value:
            typer.echo(f"{command} {__version__}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="Say the version.")
