"""docs/benchmarks.md: each benchmark owns a block of it, between markers, and writes no other."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Section, markdown, write_data

_TITLE = "# Benchmarks\n"


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Take the options that `write_outputs` follows."""
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")


def write_outputs(
    arguments: argparse.Namespace,
    name: str,
    intro: str,
    facts: Sequence[str],
    sections: Sequence[Section],
) -> None:
    """Write what was measured wherever the options say."""
    if arguments.json:
        write_data(arguments.json, facts, sections)
    if arguments.markdown:
        write_block(arguments.markdown, name, intro, facts, sections)


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
