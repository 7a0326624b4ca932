"""A digest of playbooks as they were understood: what runs, in which order, with what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sappers.provisioner.playbook.language.model import Inherited, Play, Task
from sappers.provisioner.source import Place

_LEFT_OUT = ("loader",)
_TASK_DIGITS = 12


def fingerprint(plays: Sequence[Play]) -> str:
    """The same for the same playbooks, wherever they are; another after any change but of comments
    at the end of a line.
    """
    return _Digests().of(tuple(plays)).hex()


def task_digest(task: Task) -> str:
    """Of what is written of a task, its own and what it inherits of it: without variables, of which
    an include may hand down other values each time.
    """
    handed = task.inherited
    inherited = Inherited(
        when=handed.when, notify=handed.notify, environment=handed.environment,
        settings=handed.settings,
    )  # fmt: skip
    alone = replace(task, inherited=inherited, around=Inherited())
    return _Digests().of(alone).hex()[:_TASK_DIGITS]


class _Digests:
    """Each object is looked at once: tasks share most of what they inherit."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}
        self._alive: list[Any] = []  # what an id stands for must not go

    def of(self, value: Any) -> bytes:
        known = self._known.get(id(value))
        if known is None:
            known = hashlib.sha256(self._written(value)).digest()
            self._known[id(value)] = known
            self._alive.append(value)
        return known

    def _written(self, value: Any) -> bytes:
        if isinstance(value, Place):
            return f"{value.line}:{value.column}".encode()
        if isinstance(value, Path):
            return b"path"  # the folder may move
        if isinstance(value, msgspec.Struct):
            named = [name for name in value.__struct_fields__ if name not in _LEFT_OUT]
            return b"".join(name.encode() + self.of(getattr(value, name)) for name in named)
        if isinstance(value, Mapping):
            return b"{" + b"".join(self.of(key) + self.of(one) for key, one in value.items())
        if isinstance(value, AbstractSet):
            return b"(" + b"".join(self.of(one) for one in sorted(value, key=str))
        if isinstance(value, list | tuple):
            return b"[" + b"".join(self.of(one) for one in value)
        kind = "str" if isinstance(value, str) else type(value).__name__
        return f"{kind}:{value!s}".encode("utf-8", "surrogateescape")
