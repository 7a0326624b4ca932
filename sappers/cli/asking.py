"""Asks the person at the terminal, or stdin where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from sappers.errors import ConfigError


def answer_to(question: str, *, hint: str, **options: Any) -> str:
    """What is typed; nothing typed is an empty text.

    Args:
        hint: What to do where nobody is there.
        options: Of `typer.prompt`.

    Raises:
        ConfigError: Stdin has ended.
        typer.Abort: Ctrl-C.
    """
    with _somebody_answers(question, hint):
        answer: str = typer.prompt(question, default="", show_default=False, err=True, **options)
    return answer


def confirm(question: str, *, hint: str) -> None:
    """Go on where the answer is yes.

    Args:
        hint: What to do where nobody is there.

    Raises:
        ConfigError: Stdin has ended.
        typer.Abort: It is no, or Ctrl-C.
    """
    with _somebody_answers(question, hint):
        typer.confirm(question, abort=True, err=True)


@contextmanager
def _somebody_answers(question: str, hint: str) -> Iterator[None]:
    try:
        yield
    except typer.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        typer.echo(err=True)  # the question's line has no end yet
        message = f"nobody answers “{question}”: stdin has ended"
        raise ConfigError(message, hint=hint) from None
