"""Asks the person at the terminal, or stdin where there is none."""

from __future__ import annotations

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
    try:
        answer: str = typer.prompt(question, default="", show_default=False, err=True, **options)
    except typer.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        typer.echo(err=True)  # the question's line has no end yet
        message = f"nobody answers “{question}”: stdin has ended"
        raise ConfigError(message, hint=hint) from None
    return answer
