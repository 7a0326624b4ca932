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
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sappers.errors import InventoryError
from sappers.provisioner.host_ranges import expand_host_pattern

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_GROUP_NAME = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_COMMENTS = ("#", ";")


@dataclass(frozen=True)
class Origin:
    """Where something is written. Line and column begin at 1; None: not known."""

    path: str
    line: int | None = None
    column: int | None = None

    def error(self, message: str, *, hint: str | None = None) -> InventoryError:
        """An error at this place, to raise."""
        return InventoryError(
            message, path=self.path, line=self.line, column=self.column, hint=hint
        )


@dataclass(frozen=True)
class Setting:
    """A variable's value and where it comes from."""

    value: Any
    origin: Origin


Settings = dict[str, Setting]


@dataclass
class IniGroup:
    """A group as written; hosts and children in the order they were added."""

    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    priority: int = 1


@dataclass
class IniInventory:
    """Everything one INI file says."""

    groups: dict[str, IniGroup]
    hosts: dict[str, Settings]

    def descendants(self, name: str) -> list[str]:
        """The group itself, its children, theirs, and so on: nearest first, each once."""
        found = [name]
        for group in found:
            found += [child for child in self.groups[group].children if child not in found]
        return found


def read_ini(text: str, path: str) -> IniInventory:
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
        self._result = IniInventory({"all": IniGroup(), "ungrouped": IniGroup()}, {})
        self._result.groups["all"].children["ungrouped"] = None

    def read(self, text: str) -> IniInventory:
        for self._line, self._text in enumerate(text.splitlines(), start=1):
            line = self._text.strip()
            if line and line[0] not in _COMMENTS:
                self._read_line(line)
        self._check_declared()
        self._put_in_order()
        return self._result

    def _read_line(self, line: str) -> None:
        if match := _SECTION.fullmatch(line):
            self._open_section(match[1], match[2] or "hosts")
        elif line.startswith("[") and line.endswith("]"):
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
        self._result.groups.setdefault(group, IniGroup())
        if kind == "vars":
            self._vars_of.setdefault(group, self._origin(group))
            return
        self._declared.add(group)
        for parent, origin in self._waiting.pop(group, []):
            self._link(parent, group, origin)

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
        for name in names:
            self._add_host(name, port, column, settings)

    def _add_host(self, name: str, port: int | None, column: int, settings: Settings) -> None:
        if name not in self._result.hosts:
            origin = Origin(self._path, self._line, column)
            # The port counts where the host is first named, as in Ansible.
            first = {} if port is None else {"ansible_port": Setting(port, origin)}
            self._result.hosts[name] = first
        self._result.hosts[name].update(settings)
        self._result.groups[self._group].hosts[name] = None

    def _add_group_variable(self, line: str) -> None:
        key, equals, value = (part.strip() for part in line.partition("="))
        if not (key and equals):
            self._fail("expected a variable of the group as key=value")
        origin = self._origin(line)
        setting = Setting(self._value(value, origin), origin)
        group = self._result.groups[self._group]
        if key != "ansible_group_priority":
            group.settings[key] = setting
            return
        try:
            group.priority = int(setting.value)
        except (TypeError, ValueError, OverflowError) as error:
            raise origin.error(f"ansible_group_priority={value} is no number") from error

    def _add_child(self, line: str) -> None:
        match = _GROUP_NAME.fullmatch(line)
        if not match:
            self._fail("expected the name of a child group, alone on its line")
        child, origin = match[1], self._origin(line)
        if child in self._declared:
            self._link(self._group, child, origin)
        else:
            self._waiting.setdefault(child, []).append((self._group, origin))

    def _link(self, parent: str, child: str, origin: Origin) -> None:
        if parent in self._result.descendants(child):
            raise origin.error(f"group {child} under {parent} closes a circle of groups")
        self._result.groups[parent].children[child] = None

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

    def _put_in_order(self) -> None:
        """Every group is below `all`; `ungrouped` has the hosts that no other group names."""
        groups = self._result.groups
        with_parent = {child for group in groups.values() for child in group.children}
        for name in groups:
            if name != "all" and name not in with_parent:
                groups["all"].children[name] = None
        grouped = {
            host
            for name, group in groups.items()
            if name not in ("all", "ungrouped")
            for host in group.hosts
        }
        for host in grouped:
            groups["ungrouped"].hosts.pop(host, None)
        for host in self._result.hosts:
            if host not in grouped:
                groups["ungrouped"].hosts[host] = None

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
