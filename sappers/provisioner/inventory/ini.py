"""Reads Ansible's INI inventory: sections, host lines and variables, each with its place.

What Ansible accepts is accepted and means the same: host lines are split as a shell splits them,
values are Python literals where they can be, and strings where they cannot. Errors give the place
and do not repeat the line, which may hold a password.
"""

from __future__ import annotations

import ast
import io
import re
import shlex
import warnings
from typing import Any, NoReturn

from sappers.provisioner.inventory.ranges import expand_host_pattern
from sappers.provisioner.inventory.tree import Origin, Setting, Settings, WrittenInventory

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_GROUP_NAME = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_COMMENTS = ("#", ";")


def read_ini(text: str, path: str) -> WrittenInventory:
    """Read an inventory's text.

    Raises:
        InventoryError: A line cannot be read as meant, or a group is referred to and not declared.
    """
    return _IniReader(path).read(text)


class _IniReader:
    """One pass over the lines; a child group may be declared after it is named."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._line = 0
        self._text = ""
        self._group = "ungrouped"
        self._kind = "hosts"
        self._declared = {"all", "ungrouped"}
        self._waiting: dict[str, list[tuple[str, Origin]]] = {}
        self._vars_of: dict[str, Origin] = {}
        self._result = WrittenInventory()

    def read(self, text: str) -> WrittenInventory:
        for self._line, self._text in enumerate(text.splitlines(), start=1):
            line = self._text.strip()
            if line and line[0] not in _COMMENTS:
                self._read_line(line)
        self._check_declared()
        return self._result

    def _read_line(self, line: str) -> None:
        if match := _SECTION.fullmatch(line):
            self._open_section(match[1], match[2] or "hosts")
        elif line.startswith("[") and (line.endswith("]") or "]" not in line):
            self._fail(
                "malformed section",
                hint="a section is [group], [group:vars] or [group:children], without spaces",
            )
        elif self._kind == "hosts":
            self._add_hosts(line)
        elif self._kind == "vars":
            self._add_group_variable(line)
        else:
            self._add_child(line)

    def _open_section(self, group: str, kind: str) -> None:
        if kind not in ("hosts", "children", "vars"):
            self._fail(
                f"section [{group}:{kind}] has the unknown type `{kind}`",
                hint="after the colon comes `vars` or `children`",
                at=f":{kind}",
            )
        self._group, self._kind = group, kind
        self._result.group(group)
        if kind == "vars":
            self._vars_of.setdefault(group, self._origin(group))
            return
        self._declared.add(group)
        for parent, origin in self._waiting.pop(group, []):
            self._result.link(parent, group, origin)

    def _add_hosts(self, line: str) -> None:
        (pattern, column), *words = self._split(line)
        try:
            names, port = expand_host_pattern(pattern)
        except ValueError as error:
            raise Origin(self._path, self._line, column).error(str(error)) from error
        settings: Settings = {}
        for word, word_column in words:
            origin = Origin(self._path, self._line, word_column)
            key, equals, value = word.partition("=")
            if not (key and equals):
                raise origin.error(
                    "expected a variable of the host as key=value",
                    hint="no spaces around `=`; quote a value that has spaces",
                )
            settings[key] = Setting(self._value(value, origin), origin)
        origin = Origin(self._path, self._line, column)
        self._result.add_hosts(self._group, names, port, settings, origin)

    def _add_group_variable(self, line: str) -> None:
        key, equals, value = (part.strip() for part in line.partition("="))
        if not (key and equals):
            self._fail("expected a variable of the group as key=value")
        origin = self._origin(line)
        setting = Setting(self._value(value, origin), origin)
        self._result.group(self._group).add_setting(key, setting)

    def _add_child(self, line: str) -> None:
        match = _GROUP_NAME.fullmatch(line)
        if not match:
            self._fail("expected the name of a child group, alone on its line")
        child, origin = match[1], self._origin(line)
        if child in self._declared:
            self._result.link(self._group, child, origin)
        else:
            self._waiting.setdefault(child, []).append((self._group, origin))

    def _check_declared(self) -> None:
        for child, references in self._waiting.items():
            parent, origin = references[0]
            raise origin.error(
                f"section [{parent}:children] names the undefined group {child}",
                hint=f"declare it with a section [{child}]",
            )
        for group, origin in self._vars_of.items():
            if group not in self._declared:
                raise origin.error(
                    f"section [{group}:vars] is for the undefined group {group}",
                    hint=f"declare it with a section [{group}]",
                )

    def _split(self, line: str) -> list[tuple[str, int]]:
        """Words of a host line as a shell splits them, each with its column."""
        indent = len(self._text) - len(self._text.lstrip())
        stream = io.StringIO(line)
        lexer = shlex.shlex(stream, posix=True)
        lexer.whitespace_split = True
        words: list[tuple[str, int]] = []
        position = 0
        try:
            while True:
                position = stream.tell()
                position += len(line[position:]) - len(line[position:].lstrip())
                word = lexer.get_token()
                if word is None:
                    return words
                words.append((word, indent + position + 1))
        except ValueError as error:
            origin = Origin(self._path, self._line, indent + position + 1)
            raise origin.error(
                f"{str(error).lower()} in this host line", hint="put quotes around the whole value"
            ) from error

    def _value(self, text: str, origin: Origin) -> Any:
        """The Python literal that the text is, or else the text."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
        except (TypeError, MemoryError, RecursionError) as error:
            raise origin.error("the value is no usable Python literal; quote it") from error
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def _origin(self, at: str) -> Origin:
        return Origin(self._path, self._line, max(self._text.find(at), 0) + 1)

    def _fail(self, message: str, *, hint: str | None = None, at: str = "") -> NoReturn:
        raise self._origin(at or self._text.strip()).error(message, hint=hint)
