"""Help fits a terminal of 80 columns, and none of its lines ends where the source's did."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from sappers.cli import agent, deploy
from sappers.cli.help_text import AS_IT_IS

_LINE_MAX = 78  # typer leaves a column on either side


def commands(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    """Each command with its help, groups and what is in them."""
    yield context.command_path, inspect.cleandoc(command.help or "")
    for name in getattr(command, "commands", ()):
        below = command.commands[name]
        yield from commands(below, type(context)(below, info_name=name, parent=context))


def all_of(app: typer.Typer, name: str) -> Iterator[tuple[str, str]]:
    command: Any = typer.main.get_command(app)
    yield from commands(command, command.make_context(name, [], resilient_parsing=True))


@pytest.mark.parametrize(
    ("path", "text"),
    [*all_of(agent.app, "sappers"), *all_of(deploy.deploy_app(), "sappers-deploy")],
)
def test_help_fits_80_columns(path: str, text: str) -> None:
    assert text, path
    for paragraph in text.split("\n\n"):
        if paragraph.startswith(AS_IT_IS):
            assert max(map(len, paragraph.splitlines())) <= _LINE_MAX, path
        else:
            assert "\n" not in paragraph, path
