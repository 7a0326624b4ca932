"""What an inventory says, in whatever form: groups, hosts, variables, each with its place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from sappers.errors import InventoryError, PlaybookError


class Origin(msgspec.Struct, frozen=True):
    """Where something is written. Line and column begin at 1; None: not known."""

    path: str
    line: int | None = None
    column: int | None = None

    def error(self, message: str, *, hint: str | None = None) -> InventoryError:
        """An error at this place, to raise."""
        return InventoryError(
            message, path=self.path, line=self.line, column=self.column, hint=hint
        )


@contextlib.contextmanager
def as_inventory_error(path: str) -> Iterator[None]:
    """What is wrong with the YAML or Vault of a file, as an error of the inventory."""
    try:
        yield
    except PlaybookError as error:
        place = Origin(path, error.line, error.column)
        raise place.error(error.problem, hint=error.hint) from error


class Setting(msgspec.Struct, frozen=True):
    """A variable's value and where it comes from."""

    value: Any
    origin: Origin


Settings = dict[str, Setting]


class WrittenGroup(msgspec.Struct):
    """A group as written; hosts and children in the order they were added."""

    hosts: dict[str, None] = msgspec.field(default_factory=dict)
    children: dict[str, None] = msgspec.field(default_factory=dict)
    settings: Settings = msgspec.field(default_factory=dict)
    priority: int = 1

    def add_setting(self, name: str, setting: Setting) -> None:
        """A variable of the group, or the priority that is written as one.

        Raises:
            InventoryError: The priority is no number.
        """
        if name != "ansible_group_priority":
            self.settings[name] = setting
            return
        try:
            self.priority = int(setting.value)
        except (TypeError, ValueError, OverflowError) as error:
            message = f"ansible_group_priority={setting.value} is no number"
            raise setting.origin.error(message) from error


def _first_groups() -> dict[str, WrittenGroup]:
    return {"all": WrittenGroup(children={"ungrouped": None}), "ungrouped": WrittenGroup()}


class WrittenInventory(msgspec.Struct):
    """Everything that one source says."""

    groups: dict[str, WrittenGroup] = msgspec.field(default_factory=_first_groups)
    hosts: dict[str, Settings] = msgspec.field(default_factory=dict)

    def group(self, name: str) -> WrittenGroup:
        """A group, which there is from now on."""
        return self.groups.setdefault(name, WrittenGroup())

    def add_hosts(
        self, group: str, names: Iterable[str], port: int | None, settings: Settings, origin: Origin
    ) -> None:
        """Hosts of a group, with their variables."""
        for name in names:
            if name not in self.hosts:
                # The port counts where the host is first named, as in Ansible.
                first = {} if port is None else {"ansible_port": Setting(port, origin)}
                self.hosts[name] = first
            self.hosts[name].update(settings)
            self.group(group).hosts[name] = None

    def link(self, parent: str, child: str, origin: Origin) -> None:
        """Put a group below another.

        Raises:
            InventoryError: It is below itself then.
        """
        self.group(child)
        if parent in self.descendants(child):
            raise origin.error(f"group {child} under {parent} closes a circle of groups")
        self.group(parent).children[child] = None

    def descendants(self, name: str) -> list[str]:
        """The group itself, its children, theirs, and so on: nearest first, each once."""
        found = [name]
        for group in found:
            found += [child for child in self.groups[group].children if child not in found]
        return found

    def add(self, other: WrittenInventory, origin: Origin) -> None:
        """All that another source says, which counts more where both say something.

        Raises:
            InventoryError: A group is below itself then.
        """
        for host, settings in other.hosts.items():
            self.hosts.setdefault(host, {}).update(settings)
        for name, group in other.groups.items():
            own = self.group(name)
            own.hosts.update(group.hosts)
            own.settings.update(group.settings)
            own.priority = group.priority if group.priority != 1 else own.priority
            for child in group.children:
                self.link(name, child, origin)

    def put_in_order(self) -> None:
        """Every group is below `all`; `ungrouped` has the hosts that no other group names."""
        groups = self.groups
        with_parent = {child for group in groups.values() for child in group.children}
        for name in groups:
            if name != "all" and name not in with_parent:
                groups["all"].children[name] = None
        grouped = {
            host
            for name, group in groups.items()
            if name not in ("all", "ungrouped")
            for host in group.hosts
        }
        for host in grouped:
            groups["ungrouped"].hosts.pop(host, None)
        for host in self.hosts:
            if host not in grouped:
                groups["ungrouped"].hosts[host] = None
