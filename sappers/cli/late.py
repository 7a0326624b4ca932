"""Command lines that import the command that was asked for and no other.

Importing is most of what a short command takes. Help, completion and mistakes need all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

from sappers.cli.help_text import reflowed

Places = Mapping[str, str]
"""By the name that is typed: `module:function`."""


def add_commands(
    app: typer.Typer,
    commands: Places,
    groups: Places,
    words: Sequence[str],
    kinds: Mapping[str, type[TyperCommand]] | None = None,
) -> None:
    """Add what the first of `words` names, or everything where it names nothing.

    Args:
        groups: Applications, or functions that are given the words that follow and return one.
        kinds: Classes of commands that are no plain ones, by name.
    """
    asked, below = words[0] if words else "", words[1:]
    all_of_it = [*commands, *groups]
    for name in [asked] if asked in all_of_it else all_of_it:
        if name in commands:
            command = _found(commands[name])
            text = reflowed(command.__doc__ or "")
            app.command(name, cls=(kinds or {}).get(name), help=text)(command)
        else:
            found = _found(groups[name])
            group = found if isinstance(found, typer.Typer) else found(below)
            app.add_typer(group, name=name)

    if app.registered_callback is None:
        # Without one, one command alone would be the application itself.
        app.callback()(_nothing)


def _nothing() -> None:
    pass


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
