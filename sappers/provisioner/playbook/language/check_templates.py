"""Sees that the templates of tasks can be understood, before anything runs.

What only the values could show is left to the run: variables that are undefined, filters that fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from sappers.errors import PlaybookError
from sappers.provisioner.playbook import unsupported
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.model import Play, Task, tasks_in
from sappers.provisioner.playbook.templates.templates import Templates
from sappers.provisioner.source import Text, is_template, texts_in


def check_templates(tasks: Iterable[Task], templates: Templates) -> dict[int, Task]:
    """Refuse a template that is none, or wants a filter, test or lookup that is not there.

    Returns:
        By the `id` of tasks under a condition or in a loop that want what is not supported: what to
        take for them to see whether they are reached.

    Raises:
        PlaybookError: At its place.
    """
    seen: set[int] = set()
    put_off: dict[int, Task] = {}
    for task in tasks:
        try:
            _check(_always_read(task), templates, seen)
            try:
                _check(_texts(task), templates, seen)
            except unsupported.Unsupported as error:
                if not (task.inherited.when or task.loop_with or is_template(task.loop)):
                    raise
                told = unsupported.arguments(error.in_task(task.name, task.place))
                put_off[id(task)] = replace(task, module=unsupported.MODULE, arguments=told)
        except PlaybookError as error:
            raise error.in_task(task.name, task.place) from error
    return put_off


def _check(texts: Iterable[tuple[Text, bool]], templates: Templates, seen: set[int]) -> None:
    """Check those that were not there before: tasks share what they inherit.

    Raises:
        PlaybookError: The first that is wrong; one that is only not supported comes last.
    """
    put_off: unsupported.Unsupported | None = None
    for text, is_condition in texts:
        if id(text) not in seen:
            seen.add(id(text))
            try:
                templates.check(text, is_condition=is_condition)
            except unsupported.Unsupported as error:
                put_off = put_off or error
    if put_off:
        raise put_off


def all_tasks(plays: Sequence[Play]) -> Iterator[Task]:
    """The tasks and handlers of plays."""
    for play in plays:
        yield from tasks_in([node for section in play.sections for node in section])
        yield from play.handlers


def _always_read(task: Task) -> Iterator[tuple[Text, bool]]:
    """What is rendered whether the task is reached or not, and whether it is a condition."""
    for condition in texts_in(list(task.inherited.when)):
        yield condition, True
    for text in texts_in([task.name, task.loop]):
        yield text, False


def _texts(task: Task) -> Iterator[tuple[Text, bool]]:
    for own in (task.changed_when, task.failed_when, task.until, task.loop_control.break_when):
        for condition in texts_in(list(own)):
            yield condition, True
    raw = () if task.module in catalog.FLOW else getattr(catalog.source_of(task.module), "RAW", ())
    arguments = [value for name, value in task.arguments.items() if name not in raw]
    settings = list(task.inherited.settings.values())
    rest = [task.loop_control.label, task.retries, task.delay, list(task.notify), settings]
    for text in texts_in([arguments, *rest, list(task.inherited.environment)]):
        yield text, False
