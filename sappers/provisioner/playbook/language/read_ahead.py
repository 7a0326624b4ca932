"""Reads what tasks will include where its name is known and nothing is asked first.

So that what is wrong in it, or not supported, is said before anything runs. What stands under a
condition, or has a template in its name, is read when it is reached: only the run can tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sappers.provisioner.playbook.language.model import Includer, Play, Task, tasks_in
from sappers.provisioner.source import holds_template

_INCLUDES = ("include_tasks", "include_role")
_Key = tuple[str, str, Path, Path | None]


def included_ahead(plays: Sequence[Play]) -> Iterator[Task]:
    """The tasks and handlers that plays will include, each file once.

    Raises:
        PlaybookError: A file is wrong, or has what is not supported; at its place.
    """
    for play in plays:
        if play.loader is not None:
            nodes = [node for section in play.sections for node in section]
            yield from _included(play.loader, (*tasks_in(nodes), *play.handlers))


def _included(loader: Includer, tasks: Sequence[Task]) -> Iterator[Task]:
    seen: set[_Key] = set()
    waiting = list(tasks)
    while waiting:
        task = waiting.pop(0)
        if not _is_known(task) or (key := _key(task)) in seen:
            continue
        seen.add(key)
        found = list(tasks_in(loader.ahead(task)))
        yield from found
        waiting += found


def _is_known(task: Task) -> bool:
    return (
        task.module in _INCLUDES
        and not task.inherited.when
        and not any(
            holds_template(value)
            for name, value in task.arguments.items()
            if name in ("file", "name") or name.endswith("_from")
        )
    )


def _key(task: Task) -> _Key:
    role = task.inherited.role
    arguments = repr(sorted(task.arguments.items(), key=str))
    return task.module, arguments, Path(task.place.path).parent, role.folder if role else None
