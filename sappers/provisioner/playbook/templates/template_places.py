"""Where in a template something is wrong.

Jinja knows lines alone. Its tokens are made to know their columns, too, so that what is wrong with
the syntax has one; what fails only when it is rendered is looked for in the text of its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from jinja2 import Environment, TemplateSyntaxError
from jinja2.lexer import TokenStream

_UNDEFINED = re.compile(r"'(\w+)' is undefined|has no (?:attribute|element) '?(\w+)'?")
_JINJAS_END = re.compile(r"(?:token )?'end of print statement'")
_OFFSET = re.compile(r" at \d+$")


class _Line(int):
    """A line, as Jinja hands it through, that knows its column; both begin at 1."""

    column: int

    def __new__(cls, line: int, column: int) -> Self:
        made = super().__new__(cls, line)
        made.column = column
        return made


class TokensPlaced(Environment):
    """Tells of errors of syntax in which column they are: `column_of`."""

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        source = self.preprocess(source, name, filename)
        tokens = _placed(self.lexer.tokeniter(source, name, filename, state), source)
        return TokenStream(self.lexer.wrap(tokens, name, filename), name, filename)


def _placed(tokens: Iterator[tuple[int, str, str]], source: str) -> Iterator[tuple[int, str, str]]:
    text = source.replace("\r\n", "\n").replace("\r", "\n")
    at = 0
    try:
        for line, kind, value in tokens:
            at = max(at, text.find(value, at))  # blanks that a tag takes away are in no token
            yield _Line(line, at - text.rfind("\n", 0, at)), kind, value
            at += len(value)
    except TemplateSyntaxError as error:  # where no token can begin
        error.lineno = _Line(error.lineno, at - text.rfind("\n", 0, at))
        raise


def column_of(error: TemplateSyntaxError) -> int | None:
    """The column of an error of syntax."""
    return error.lineno.column if isinstance(error.lineno, _Line) else None


def problem_of(error: TemplateSyntaxError) -> str:
    """What is wrong, without Jinja's count of characters: line and column are told beside."""
    said = _OFFSET.sub("", error.message or "wrong").removesuffix(".")
    return _JINJAS_END.sub("end of the expression", said)


def offset_named(text: str, message: str) -> int:
    """Where a text has the name that is undefined; 0 where nobody can tell."""
    named = _UNDEFINED.search(message)
    found = named and re.search(rf"\b{named[1] or named[2]}\b", text)
    return found.start() if found else 0


def column_in_line(line: str, message: str, settings: Mapping[str, Any]) -> int | None:
    """The column of what failed in a line of a template.

    Of the name that is undefined, else of the only expression or tag of the line; None where there
    are several.

    Args:
        settings: Of the template, which may begin expressions and tags otherwise.
    """
    if named := offset_named(line, message):
        return named + 1
    begins = (settings.get("variable_start_string", "{{"), settings.get("block_start_string", "{%"))
    either = "|".join(re.escape(str(one)) for one in begins)
    places = [found.start() for found in re.finditer(either, line)]
    return places[0] + 1 if len(places) == 1 else None


def line_of_file(path: str, content: str, number: int | None, own: str) -> str:
    """A line of a template, or of a file that it includes; empty where there is none."""
    try:
        text = content if path == own else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    lines = text.splitlines()
    return lines[number - 1] if number and number <= len(lines) else ""
