"""What a run of a playbook told, for tests that read it."""

from __future__ import annotations

from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.run.engine import RunReport
from sappers.provisioner.playbook.tasks.judge import Judged


class Lines:
    """A watcher that writes down `host task outcome`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.results: list[Judged] = []
        self.plays: list[tuple[str, int]] = []  # each with how many lines were there before it
        self.report = RunReport()

    def play(self, name: str, *, empty: bool = False) -> None:
        self.plays.append((name, len(self.lines)))

    def task(self, task: Task, name: str) -> None:
        self._name = name

    def result(self, host: str, judged: Judged) -> None:
        self.lines.append(f"{host} {self._name} {judged.outcome.value}")
        self.results.append(judged)
