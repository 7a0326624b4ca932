"""What all plays of a run share: what is known of hosts, and who is shown and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from sappers.provisioner.inventory.host import LOCALHOST, Host, local_host
from sappers.provisioner.inventory.inventory import Inventory
from sappers.provisioner.playbook.journal.ledger import Ledger
from sappers.provisioner.playbook.language.files import PlaybookFiles
from sappers.provisioner.playbook.language.model import Play, Task
from sappers.provisioner.playbook.run.counts import Counts
from sappers.provisioner.playbook.run.dynamic_inventory import Inventories
from sappers.provisioner.playbook.run.host_state import HostState
from sappers.provisioner.playbook.run.links import HostLinks
from sappers.provisioner.playbook.tasks.judge import Judged
from sappers.provisioner.playbook.tasks.options import RunOptions
from sappers.provisioner.playbook.tasks.prepare import Preparer
from sappers.provisioner.playbook.tasks.variables import HostFacts
from sappers.provisioner.playbook.templates.templates import Templates


class Watcher(Protocol):
    """Who shows a run. Called from one thread."""

    def play(self, name: str, *, empty: bool = False) -> None:
        """A play begins, or with `serial` its next batch of hosts; or there is no host for it."""

    def task(self, task: Task, name: str) -> None:
        """The results of a task follow."""

    def result(self, host: str, judged: Judged) -> None:
        """How it ended on a host."""


class Progress(Protocol):
    """Who is told what goes on right now. Called from the hosts' threads."""

    def begins(self, host: str, name: str) -> None:
        """A task is the next that a host does."""

    def said(self, host: str, line: str) -> None:
        """A program on a host wrote a line; never one of a task with `no_log`."""


class Run(msgspec.Struct):
    """What all plays of a run share.

    Attributes:
        inventory: As it is now, with the variables beside the playbook.
        extra: The variables of `-e`.
        hosts: Those that tasks may name: the inventory's, and the play's that it does not name.
        takes: Asked before each task (`--step`); None: all are run.
        ask: Asks the person at the terminal, with or without showing what is typed; None where
            nobody is there.
        put_off: As `check_templates` told.
    """

    inventory: Inventory
    options: RunOptions
    templates: Templates
    preparer: Preparer
    links: HostLinks
    watcher: Watcher
    states: dict[str, HostState]
    counts: dict[str, Counts]
    inventories: Inventories
    extra: Mapping[str, Any]
    hosts: Mapping[str, Host] = msgspec.field(default_factory=dict)
    files: PlaybookFiles = msgspec.field(default_factory=PlaybookFiles)
    ledger: Ledger = msgspec.field(default_factory=Ledger)
    takes: Callable[[Task], bool] | None = None
    ask: Callable[[str, bool], str] | None = None
    given: Mapping[str, Any] = msgspec.field(default_factory=dict)
    progress: Progress | None = None
    put_off: Mapping[int, Task] = msgspec.field(default_factory=dict)

    def of_play(self, folder: Path, hosts: Sequence[Host]) -> Run:
        """For a play in a folder, on these hosts."""
        inventory = self.inventories.of(folder)
        return replace(self, inventory=inventory, hosts=_by_name([*inventory.hosts, *hosts]))

    def host_named(self, name: str) -> Host:
        """A host; one that the inventory does not name is reached by its name, as in Ansible."""
        known = self.hosts.get(name)
        if known is None and name in LOCALHOST:
            return local_host(name)
        return known or Host(name, ("all",), {}, address=name)

    def facts_of(self, host: str) -> HostFacts:
        """What is known of a host; nothing of one that is met for the first time."""
        return self.states[host].facts if host in self.states else HostFacts()

    def change_inventory(self, play: Play, task: Task, results: Mapping[str, Judged]) -> None:
        """Take over what a task does to the inventory."""
        if self.inventories.change(task, results):
            self._take_over_inventory(play)

    def refresh_inventory(self, play: Play) -> None:
        """Read the inventory again. Raises InventoryError."""
        self.inventories.refresh()
        self._take_over_inventory(play)

    def _take_over_inventory(self, play: Play) -> None:
        before = {host.name: host for host in self.inventory.hosts}
        self.inventory = self.inventories.of(play.folder)
        self.hosts = _by_name([*self.inventory.hosts, *self.hosts.values()])
        for host in self.inventory.hosts:
            for secret in (host.password, host.become_password):
                if secret is not None:
                    self.ledger.cover(secret.reveal())
            self.states.setdefault(host.name, HostState(host.name))
            self.counts.setdefault(host.name, Counts())
            if host.name in before and before[host.name].settings != host.settings:
                self.links.drop(host.name)  # it may be reached in another way now


def _by_name(hosts: Sequence[Host]) -> dict[str, Host]:
    """Of several of one name the first."""
    found: dict[str, Host] = {}
    for host in hosts:
        found.setdefault(host.name, host)
    return found
