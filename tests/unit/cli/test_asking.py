"""Questions that nobody answers are an error with a way out, and not an interruption."""

from __future__ import annotations

import typer
from typer.testing import CliRunner

from sappers.cli.asking import answer_to, confirm
from sappers.errors import ConfigError

app = typer.Typer()


@app.command()
def ask() -> None:
    confirm("Really?", hint="--yes asks nothing")
    typer.echo(answer_to("Who", hint="run it at a terminal"))


def test_a_no_and_a_yes() -> None:
    assert CliRunner().invoke(app, input="n\n").exit_code == 1
    assert CliRunner().invoke(app, input="y\nme\n").stdout.endswith("me\n")


def test_where_stdin_has_ended_the_way_out_is_said() -> None:
    for given, hint in (("", "--yes asks nothing"), ("y\n", "run it at a terminal")):
        error = CliRunner().invoke(app, input=given).exception
        assert isinstance(error, ConfigError)
        assert "stdin has ended" in error.message
        assert error.hint == hint
