"""What `add_host` and `group_by` make of the inventory, for the rest of a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sappers.errors import InventoryError
from sappers.provisioner.inventory.inventory import Inventory
from sappers.provisioner.inventory.tree import Origin, Setting, WrittenInventory
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.tasks.judge import Judged


class Inventories:
    """The inventory as it is now, for each folder of playbooks with the variables beside them."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._beside: dict[Path, Inventory] = {}
        self._changes: list[tuple[Task, Mapping[str, Judged]]] = []

    def of(self, folder: Path) -> Inventory:
        """The inventory for the playbooks of a folder. Raises InventoryError."""
        if folder not in self._beside:
            self._beside[folder] = self._inventory.beside(folder)
        return self._beside[folder]

    def change(self, task: Task, results: Mapping[str, Judged]) -> bool:
        """Take over what a task says; whether anything is another now.

        Args:
            results: Of the hosts that did the task.

        Raises:
            PlaybookError: A host's variables make no sense.
        """
        if not self._change(task, results):
            return False
        self._changes.append((task, dict(results)))
        return True

    def refresh(self) -> None:
        """Read the inventory again; what tasks made of it stays. Raises SappersError."""
        self._inventory = self._inventory.read_again()
        self._beside.clear()
        for task, results in self._changes:
            self._change(task, results)

    def _change(self, task: Task, results: Mapping[str, Judged]) -> bool:
        written = copy.deepcopy(self._inventory.written)
        origin = Origin(task.place.path, task.place.line, task.place.column)
        try:
            for host, judged in results.items():
                for result in [one for _, one in judged.items] or [judged.result]:
                    if not (result.get("failed") or result.get("skipped")):
                        _apply(written, host, result, origin)
            written.put_in_order()
            if written == self._inventory.written:
                return False
            self._inventory = self._inventory.rewritten(written)
        except InventoryError as error:
            raise task.place.error(error.message, hint=error.hint) from error
        self._beside.clear()
        return True


def _apply(written: WrittenInventory, host: str, result: Mapping[str, Any], origin: Origin) -> None:
    if "add_host" in result:
        added = result["add_host"]
        settings = {key: Setting(value, origin) for key, value in added["host_vars"].items()}
        for group in added["groups"] or ["ungrouped"]:
            written.add_hosts(group, [added["host_name"]], None, settings, origin)
    elif "add_group" in result:
        group = result["add_group"]
        if host in written.hosts:  # and not this machine, which the inventory does not name
            written.add_hosts(group, [host], None, {}, origin)
        for parent in result["parent_groups"]:
            if group not in written.group(parent).children:
                written.link(parent, group, origin)
