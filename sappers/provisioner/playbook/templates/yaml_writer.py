"""Writes YAML byte for byte as the library that Ansible uses: files are compared by content."""

# ruff: noqa: FBT001, FBT002, FBT003 — the methods are ruamel's

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from ruamel.yaml.emitter import Emitter

# What needs no escape in double quotes.
_PLAIN = re.compile(r"[ !#-\[\]-~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]")


class AnsibleEmitter(Emitter):
    """Where the two libraries differ in quotes, indentation and where long texts are folded."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unicode_supplementary = False  # signs above U+FFFF are escaped
        # `[…]` and `{…}` in a list are one blank behind their dash.
        self.indents.seq_flow_align = lambda *_: 0  # type: ignore[method-assign]

    def increase_indent(
        self, flow: bool = False, sequence: bool | None = None, indentless: bool = False
    ) -> None:
        """What goes on in a next line is indented in a document's outermost value, too."""
        is_outermost = self.indent is None
        super().increase_indent(flow, sequence, indentless)
        if is_outermost and flow:
            self.indent = self.best_map_indent

    def expect_document_root(self) -> None:
        """Lines are measured without the `---` before the outermost value: nobody sees it."""
        self.column = -1
        super().expect_document_root()

    def choose_scalar_style(self) -> Any:
        """Single quotes also for what has lines or quotes in it."""
        style = super().choose_scalar_style()
        if "\x85" in self.event.value:
            return '"'
        asked = self.event.style
        if style != '"' or asked == '"' or self.canonical or not self.analysis.allow_single_quoted:
            return style
        return style if self.simple_key_context and self.analysis.multiline else "'"

    def process_scalar(self) -> None:
        """An item of a list is one blank behind its dash."""
        self.sequence_context = False
        super().process_scalar()

    def write_plain(self, text: Any, split: Any = True) -> None:
        """A long text goes on in the next line at the first blank behind the width."""
        width, self.best_width = self.best_width, sys.maxsize
        column = self.column + (not self.whitespace)
        lines = _folded(text, column, self.indent or 0, width) if split else iter((text,))
        super().write_plain(next(lines))
        self.root_context = False
        for line in lines:
            self.write_indent()
            super().write_plain(line)
        self.best_width = width

    def write_double_quoted(self, text: Any, split: Any = True) -> None:
        """The same, where a text needs signs that only double quotes can hold."""
        self.write_indicator('"', True)
        for at, sign in enumerate(text):
            is_inside = 0 < at < len(text) - 1 and text[at - 1] != " "
            if sign == " " and is_inside and split and self.column > self.best_width:
                self.write_indent()
                self._write("\\" if text[at + 1] == " " else "")
            else:
                self._write(self._escaped(sign))
        self.write_indicator('"', False)

    def _escaped(self, sign: str) -> str:
        if _PLAIN.fullmatch(sign):
            return sign
        if sign in self.ESCAPE_REPLACEMENTS:
            return "\\" + self.ESCAPE_REPLACEMENTS[sign]
        code = ord(sign)
        letter, digits = ("x", 2) if code < 0x100 else ("u", 4) if code < 0x10000 else ("U", 8)
        return f"\\{letter}{code:0{digits}X}"

    def _write(self, text: str) -> None:
        self.column += len(text)
        self.stream.write(text)


def _folded(text: str, column: int, indent: int, width: int) -> Iterator[str]:
    """The lines of a text that begins at a column; between several blanks none is cut."""
    began = 0
    for at, sign in enumerate(text):
        is_alone = (
            sign == " " and text[at - 1 : at] != " " and text[at + 1 : at + 2] not in ("", " ")
        )
        if at and is_alone and column > width:
            yield text[began:at]
            began, column = at + 1, indent
        else:
            column += 1
    yield text[began:]
