"""Help as it stands in the source, and as typer wants it."""

from __future__ import annotations

import inspect

AS_IT_IS = "\b"  # click's mark of a paragraph whose lines stay as they are


def reflowed(text: str) -> str:
    """Each paragraph as one line, for typer to fill; but those that begin with `\\b`."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        one if one.startswith(AS_IT_IS) else " ".join(one.split()) for one in paragraphs
    )
