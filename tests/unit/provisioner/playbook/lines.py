"""What a run of a playbook told, for tests that read it."""

from __future__ import annotations

from sappers.provisioner.playbook.engine import RunReport
from sappers.provisioner.playbook.judge import Judged
from sappers.provisioner.playbook.model import Task


class Lines:
    """A watcher that writes down `host task outcome`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.results: list[Judged] = []
        self.plays: list[tuple[str, int]] = []  # each with how many lines were there before it
        self.report = RunReport()

    def play(self, name: str) -> None:
        self.plays.append((name, len(self.lines)))

    def task(self, task: Task, name: str) -> None:
        self._name = name

    def result(self, host: str, judged: Judged) -> None:
        self.lines.append(f"{host} {self._name} {judged.outcome.value}")
        self.results.append(judged)
