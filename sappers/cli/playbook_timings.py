"""How long each task of a run took on each host, for `--profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from sappers.provisioner.playbook.language.model import Task
    from sappers.provisioner.playbook.run.run import Watcher
    from sappers.provisioner.playbook.tasks.judge import Judged


class Timings(msgspec.Struct):
    """What took how long; a watcher that hands on what it hears.

    Attributes:
        tasks: Seconds by host, by the task's number and name.
    """

    below: Watcher
    tasks: dict[tuple[int, str], dict[str, float]] = msgspec.field(default_factory=dict)
    _current: tuple[int, str] = (0, "")

    def play(self, name: str, *, empty: bool = False) -> None:
        """A play begins."""
        self.below.play(name, empty=empty)

    def task(self, task: Task, name: str) -> None:
        """The results of a task follow."""
        # Many have no name but their module's.
        where = "" if task.name else f" ({Path(task.place.path).name}:{task.place.line})"
        self._current = (len(self.tasks) + 1, name + where)
        self.tasks[self._current] = {}
        self.below.task(task, name)

    def result(self, host: str, judged: Judged) -> None:
        """How it ended on a host."""
        self.tasks[self._current][host] = judged.seconds
        self.below.result(host, judged)
