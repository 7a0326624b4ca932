"""Options and arguments that take a number refuse one that makes no sense, before anything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from sappers.cli import agent
from sappers.cli.deploy import deploy_app


def _numbers(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from _numbers(below, (*words, name))
    for parameter in command.params:
        is_number = parameter.type.name.partition(" ")[0] in ("float", "int")
        if is_number and not getattr(parameter, "count", False):
            yield " ".join((*words, parameter.name)), (command, parameter)


NUMBERS = dict(
    [*_numbers(get_command(deploy_app())), *_numbers(get_command(agent.app), ("sappers",))]
)


def test_they_are_found() -> None:
    assert {"image push timeout", "sappers bootstrap", "raft reseed timeout"} < NUMBERS.keys()


@pytest.mark.parametrize("name", NUMBERS)
def test_each_has_a_least(name: str) -> None:
    _, parameter = NUMBERS[name]
    least = getattr(parameter.type, "min", None)
    assert least is not None
    assert least >= 0


FLOATS = [name for name, (_, one) in NUMBERS.items() if one.type.name.startswith("float")]


@pytest.mark.parametrize("given", ["nan", "inf"])
@pytest.mark.parametrize("name", FLOATS)
def test_what_no_clock_gets_to_is_refused(name: str, given: str) -> None:
    command, parameter = NUMBERS[name]
    with pytest.raises(typer.BadParameter, match="is no number of seconds"):
        parameter.process_value(typer.Context(command), given)


@pytest.mark.parametrize("words", [("image", "push", "web"), ("stop", "web"), ("drain", "m")])
def test_what_is_less_is_refused(words: tuple[str, ...]) -> None:
    app, least = deploy_app(words), [*words, "--timeout", "-1"]
    done = CliRunner().invoke(app, least)
    assert done.exit_code == 2
    assert "x>=0" in done.output
