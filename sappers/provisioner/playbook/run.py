"""What all plays of a run share: what is known of hosts, and who is shown and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sappers.provisioner.inventory.inventory import Inventory
from sappers.provisioner.playbook.dynamic_inventory import Inventories
from sappers.provisioner.playbook.hosts import HostLinks
from sappers.provisioner.playbook.judge import Judged
from sappers.provisioner.playbook.ledger import Ledger
from sappers.provisioner.playbook.model import Play, Task
from sappers.provisioner.playbook.options import RunOptions
from sappers.provisioner.playbook.prepare import Preparer
from sappers.provisioner.playbook.stats import Counts
from sappers.provisioner.playbook.templating import Templates
from sappers.provisioner.playbook.track import HostState, Progress
from sappers.provisioner.source import Decrypt


class Watcher(Protocol):
    """Who shows a run. Called from one thread."""

    def play(self, name: str) -> None:
        """A play begins."""

    def task(self, task: Task, name: str) -> None:
        """The results of a task follow."""

    def result(self, host: str, judged: Judged) -> None:
        """How it ended on a host."""


@dataclass
class Run:
    """What all plays of a run share.

    Attributes:
        takes: Asked before each task (`--step`); None: all are run.
        ask: Asks the person at the terminal, with or without showing what is typed; None where
            nobody is there.
    """

    inventory: Inventory
    options: RunOptions
    templates: Templates
    preparer: Preparer
    links: HostLinks
    watcher: Watcher
    states: dict[str, HostState]
    counts: dict[str, Counts]
    decrypt: Decrypt | None = None
    ledger: Ledger = field(default_factory=Ledger)
    takes: Callable[[Task], bool] | None = None
    ask: Callable[[str, bool], str] | None = None
    inventories: Inventories | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None

    def change_inventory(self, play: Play, task: Task, results: Mapping[str, Judged]) -> bool:
        """Take over what a task does to the inventory; whether that is anything."""
        if self.inventories is None or not self.inventories.change(task, results):
            return False
        known = {host.name: host for host in self.inventory.hosts}
        self.inventory = self.inventories.of(play.folder)
        for host in self.inventory.hosts:
            self.states.setdefault(host.name, HostState(host.name))
            self.counts.setdefault(host.name, Counts())
            if host.name in known and known[host.name].settings != host.settings:
                self.links.drop(host.name)  # it may be reached in another way now
        return True
