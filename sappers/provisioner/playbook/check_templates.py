"""Sees that the templates of tasks can be understood, before anything runs.

What only the values could show is left to the run: variables that are undefined, filters that fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sappers.errors import PlaybookError
from sappers.provisioner.playbook import catalog
from sappers.provisioner.playbook.model import Play, Task, tasks_in
from sappers.provisioner.playbook.templating import Templates
from sappers.provisioner.source import Text, texts_in


def check_templates(tasks: Iterable[Task], templates: Templates) -> None:
    """Refuse a template that is none, or wants a filter or a test that is not there.

    Raises:
        PlaybookError: At its place.
    """
    seen: set[int] = set()
    for task in tasks:
        try:
            for text in _new(_conditions(task), seen):
                templates.check(text, is_condition=True)
            for text in _new(_texts(task), seen):
                templates.check(text)
        except PlaybookError as error:
            raise error.in_task(task.name, task.place) from error


def all_tasks(plays: Sequence[Play]) -> Iterator[Task]:
    """The tasks and handlers of plays."""
    for play in plays:
        yield from tasks_in([node for section in play.sections for node in section])
        yield from play.handlers


def _conditions(task: Task) -> Iterator[Text]:
    own = (task.inherited.when, task.changed_when, task.failed_when, task.until)
    for conditions in own:
        yield from texts_in(list(conditions))


def _texts(task: Task) -> Iterator[Text]:
    raw = () if task.module in catalog.FLOW else getattr(catalog.source_of(task.module), "RAW", ())
    arguments = [value for name, value in task.arguments.items() if name not in raw]
    yield from texts_in([arguments, task.name, task.loop, task.loop_control.label])
    yield from texts_in([task.retries, task.delay, list(task.notify)])
    yield from texts_in([list(task.inherited.environment), list(task.inherited.settings.values())])


def _new(texts: Iterable[Text], seen: set[int]) -> Iterator[Text]:
    """Those that were not there before: tasks share what they inherit."""
    for text in texts:
        if id(text) not in seen:
            seen.add(id(text))
            yield text
