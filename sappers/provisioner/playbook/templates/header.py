"""The first line of a template file that says how Jinja reads it: `#jinja2: trim_blocks: False`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

_SIGN = "#jinja2:"
_SETTINGS = frozenset(
    {
        *("block_start_string", "block_end_string", "variable_start_string"),
        *("variable_end_string", "comment_start_string", "comment_end_string"),
        *("line_statement_prefix", "line_comment_prefix", "trim_blocks", "lstrip_blocks"),
        *("newline_sequence", "keep_trailing_newline"),
    }
)


def read_header(content: str) -> tuple[str, Mapping[str, Any]]:
    """The line with its newline, which is not part of the text, and its settings; empty: no line.

    Raises:
        ValueError: It is malformed, or there is no such setting.
    """
    if not content.startswith(_SIGN):
        return "", {}
    line, newline, _ = content.partition("\n")
    settings: dict[str, Any] = {}
    for pair in line.removeprefix(_SIGN).split(","):
        name, colon, value = pair.partition(":")
        if not colon or name.strip() not in _SETTINGS:
            raise ValueError(f"{pair.strip()!r} is no setting of {_SIGN}: {sorted(_SETTINGS)}")
        settings[name.strip()] = ast.literal_eval(value.strip())
    return line + newline, settings
