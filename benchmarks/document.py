"""docs/benchmarks.md: each benchmark owns a block of it, between markers, and writes no other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Section, markdown

_TITLE = "# Benchmarks\n"


def write_block(
    path: Path, name: str, intro: str, facts: Sequence[str], sections: Sequence[Section]
) -> None:
    """Replace the block `name`, or add it at the end; the rest of the document stays."""
    lines = [intro, "", *(f"- {fact}" for fact in facts), ""]
    body = "\n".join(lines) + "\n" + "\n".join(markdown(section) for section in sections)
    block = f"<!-- {name}: begin -->\n{body.rstrip()}\n<!-- {name}: end -->"
    text = path.read_text() if path.exists() else _TITLE
    own = re.compile(rf"<!-- {name}: begin -->.*<!-- {name}: end -->", re.S)
    ours = own.search(text)
    if ours is None:
        path.write_text(f"{text.rstrip()}\n\n{block}\n")
        return
    path.write_text(f"{text[: ours.start()]}{block}{text[ours.end() :]}")
