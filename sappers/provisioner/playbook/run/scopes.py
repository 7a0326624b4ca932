"""Which variables a task sees on a host: those of the host, of the play, and of all around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from sappers.provisioner.inventory.inventory import Host, Inventory
from sappers.provisioner.playbook.language.model import Inherited, Play, Role
from sappers.provisioner.playbook.run.run import Run
from sappers.provisioner.playbook.tasks import magic
from sappers.provisioner.playbook.tasks.variables import (
    HostFacts,
    PlayVariables,
    Scope,
    ScopeView,
    as_source,
    make_scope,
)
from sappers.provisioner.playbook.tasks.ways import usual_way
from sappers.provisioner.playbook.templates.values import NeedsOthers
from sappers.provisioner.source import Place


class Scopes:
    """What the tasks of a play see on each host of a batch. Asked from the hosts' threads.

    Args:
        name: The play's.
        hosts: All that the play names.
        going: The hosts of the batch that go on.

    Attributes:
        in_step: All hosts are as far, so a task may ask what others know.
    """

    def __init__(
        self, run: Run, play: Play, name: str, variables: PlayVariables, hosts: Sequence[Host],
        going: Callable[[], list[str]],
    ) -> None:  # fmt: skip
        self._run = run
        self._play = play
        self._variables = variables
        self._going = going
        roles = play.roles if play.loader is None else play.loader.roles
        names = [host.name for host in hosts]
        self._magic = magic.play_magic(play.folder, name, run.options, roles, names)
        self._inventory_of: dict[str, _OfInventory] = {}
        self.in_step = True

    def publish(self, roles: Sequence[Role]) -> None:
        """Make the variables of roles known to all tasks that follow."""
        self._variables = self._variables.with_roles(roles)

    def of_play(self, host: str) -> Scope:
        """What the play itself sees on a host."""
        return self.of_task(host, self._play.inherited, self._run.facts_of(host))

    def of_task(self, host: str, inherited: Inherited, facts: HostFacts) -> Scope:
        """What a task sees.

        Args:
            inherited: What counts for the task.
            facts: What the host is taken to know when the task's turn comes.
        """

        def view(name: str) -> ScopeView:
            if name == host:
                return ScopeView(self._of_hostvars(name, facts))
            if not self.in_step:
                raise NeedsOthers(name)
            return ScopeView(self._of_hostvars(name, self._run.facts_of(name)))

        def elsewhere(name: str) -> Scope:
            there = self.of_task(name, inherited, self._run.facts_of(name))
            return there.under({"inventory_hostname": host})

        going = self._going()
        of_inventory = self._of_inventory(host)
        known = {
            **of_inventory.magic,
            **self._magic,
            **magic.task_magic(inherited),
            **self._run.given,
            "ansible_play_hosts": [
                name
                for name in self._magic["ansible_play_hosts_all"]
                if name not in self._run.states or self._run.states[name].is_unbroken
            ],
            "ansible_play_batch": going,
            "play_hosts": going,
            "hostvars": lambda: magic.HostVars(list(self._run.hosts), view),
        }
        said = of_inventory.said
        variables = self._variables.on_host(
            self._run.templates, self._play.inherited, facts, said, known
        )
        usual = usual_way(of_inventory.host, inherited.settings, self._run.options)
        scope = make_scope(
            self._run.templates, variables, inherited, facts, said, known, elsewhere, usual
        )
        known["vars"] = lambda: ScopeView(scope)
        return scope

    def _of_hostvars(self, host: str, facts: HostFacts) -> Scope:
        """What `hostvars` tells of a host: nothing of the play, of its roles and tasks."""
        of_inventory = self._of_inventory(host)
        known = {
            **of_inventory.magic, **magic.of_the_run(self._magic), **self._run.given,
        }  # fmt: skip
        variables = PlayVariables(extra=self._variables.extra)
        return make_scope(
            self._run.templates, variables, Inherited(), facts, of_inventory.said, known
        )

    def _of_inventory(self, name: str) -> _OfInventory:
        """The same for all tasks of a host, until one of them changes the inventory."""
        inventory, host = self._run.inventory, self._run.host_named(name)
        known = self._inventory_of.get(name)
        if known is None or known.inventory is not inventory or known.host is not host:
            about = magic.inventory_magic(inventory, host)
            known = _OfInventory(inventory, host, about, inventory_layer(host))
            self._inventory_of[name] = known
        return known


class _OfInventory(msgspec.Struct, frozen=True):
    """What an inventory tells of a host."""

    inventory: Inventory
    host: Host
    magic: Mapping[str, Any]
    said: Mapping[str, Any]


def inventory_layer(host: Host) -> Mapping[str, Any]:
    """What the inventory says of a host, as variables."""
    return {
        name: as_source(
            setting.value, Place(setting.origin.path, setting.origin.line, setting.origin.column)
        )
        for name, setting in host.settings.items()
    }
