"""A task ready to be run on a host: what is asked of the host, and what is known without asking."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.tasks.variables import Scope
from sappers.provisioner.playbook.tasks.ways import Way
from sappers.provisioner.source import texts_in


class Call(msgspec.Struct, frozen=True):
    """A module to be run on the host, with all it needs, and how long it may take.

    Attributes:
        check: It only announces.
        alone: It does so whether or not the whole run does.
    """

    module: str
    args: Mapping[str, Any]
    check: bool
    alone: bool
    diff: bool
    environment: Mapping[str, str]
    seconds: float | None = None
    job: Mapping[str, Any] | None = None

    def as_data(self) -> dict[str, Any]:
        """As the executor takes it."""
        return {
            "module": self.module,
            "args": dict(self.args),
            "paths": catalog.path_arguments(self.module),
            "check": self.check,
            "alone": self.alone,
            "diff": self.diff,
            "environment": dict(self.environment),
            "seconds": self.seconds,
            "job": self.job and dict(self.job),
        }


class Item(msgspec.Struct, frozen=True):
    """One turn of a task.

    Attributes:
        value: The loop's item; None without a loop.
        known: Its result, where nothing has to be asked of the host.
        call: Else what to ask.
        way: Where the call goes.
    """

    scope: Scope
    value: Any = None
    label: Any = None
    known: dict[str, Any] | None = None
    call: Call | None = None
    way: Way = Way()


class Prepared(msgspec.Struct, frozen=True):
    """A task, ready to be run on a host.

    Attributes:
        name: Rendered.
        looped: The result has `results`, even for no item at all.
        known: The result, where even the loop could not be had.
        blobs: Contents that the calls refer to.
        ignores: Whether failures are ignored, turn by turn, where that is each turn's own.
    """

    task: Task
    name: str
    items: tuple[Item, ...]
    looped: bool = False
    known: dict[str, Any] | None = None
    blobs: Mapping[str, bytes | Path] = msgspec.field(default_factory=dict)
    no_log: bool = False
    ignore_errors: bool = False
    ignores: tuple[bool, ...] = ()
    ignore_unreachable: bool = False
    delegate_facts: bool = False

    def __repr__(self) -> str:
        return f"Prepared({self.name!r})"  # what it sends may be what no log or traceback shows

    @property
    def way(self) -> Way:
        """Where its calls go: all the same way, or the first's (`goes_many_ways`)."""
        return next((item.way for item in self.items if item.call), Way())

    @property
    def goes_many_ways(self) -> bool:
        """Whether its turns are for several hosts, or run as several users."""
        return len({item.way for item in self.items if item.call}) > 1

    @property
    def looks_back(self) -> bool:
        """Whether a turn of its loop asks what came of the one before."""
        task = self.task
        if not (self.looped and task.register):
            return False
        asks = re.compile(rf"\b{task.register}\b")
        texts = texts_in([list(task.inherited.when), list(task.arguments.values())])
        return any(asks.search(text) for text in texts)

    @property
    def calls(self) -> tuple[Call, ...]:
        """All that has to be asked of the host."""
        return tuple(item.call for item in self.items if item.call)

    @property
    def is_conducted(self) -> bool:
        """Whether it is driven from here."""
        return any(catalog.is_conducted(call.module) for call in self.calls)

    @property
    def is_judged_here(self) -> bool:
        """Whether what comes after it has to wait for what we make of its result."""
        return bool(self.task.failed_when) or self.is_retried

    @property
    def is_retried(self) -> bool:
        """Whether it is tried again where it did not come out well."""
        return bool(self.task.until) or self.task.retries is not None


def failure(error: Exception, *, hidden: bool = False, task: Task | None = None) -> dict[str, Any]:
    """The result of a task that could not even be tried.

    Args:
        hidden: Nothing of why may be told, since it may name values (`no_log`); only where.
        task: Which it is; told where what is wrong is in another file.
    """
    if task and isinstance(error, PlaybookError) and error.path != task.place.path:
        error = error.in_task(task.title, task.place)
    hint = getattr(error, "hint", None)
    message = getattr(error, "message", None) or str(error)
    if hidden:
        parts = (getattr(error, part, None) for part in ("path", "line", "column"))
        place = ":".join(str(part) for part in parts if part is not None) or "it"
        hint, message = None, f"{place} fails; why is not shown (no_log)"
    return {"failed": True, "changed": False, "msg": f"{message} ({hint})" if hint else message}


def turns(task: Task, values: list[Any]) -> Iterator[dict[str, Any]]:
    """What each turn of a loop knows beside."""
    control = task.loop_control
    for index, value in enumerate(values):
        layer: dict[str, Any] = {control.loop_var: value, "ansible_loop_var": control.loop_var}
        if control.index_var:
            layer[control.index_var] = index
            layer["ansible_index_var"] = control.index_var
        if control.extended:
            layer["ansible_loop"] = _extended(values, index)
            if not control.all_items:
                del layer["ansible_loop"]["allitems"]
        yield layer


def _extended(values: list[Any], index: int) -> dict[str, Any]:
    count = len(values)
    around: dict[str, Any] = {}
    if index > 0:
        around["previtem"] = values[index - 1]
    if index + 1 < count:
        around["nextitem"] = values[index + 1]
    return {
        "allitems": values,
        "index": index + 1,
        "index0": index,
        "revindex": count - index,
        "revindex0": count - index - 1,
        "first": index == 0,
        "last": index + 1 == count,
        "length": count,
        **around,
    }
