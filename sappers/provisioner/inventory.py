"""The inventory: which hosts there are, in which groups, with which variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sappers.errors import InventoryError
from sappers.provisioner.host import Host, build_host
from sappers.provisioner.host_patterns import select_hosts
from sappers.provisioner.host_values import Secret
from sappers.provisioner.inventory_files import read_settings
from sappers.provisioner.inventory_ini import IniInventory, Origin, Settings, read_ini
from sappers.provisioner.ssh_options import SshOptions

__all__ = ["Group", "Host", "Inventory", "Secret", "SshOptions", "load_inventory"]

_NAMES_SHOWN_MAX = 40


@dataclass(frozen=True)
class Group:
    """A named set of hosts.

    Attributes:
        hosts: Names of its own hosts and of its children's, in inventory order.
        variables: What `[name:vars]` and `group_vars/` say, without the parents', as written.
    """

    name: str
    hosts: tuple[str, ...]
    children: tuple[str, ...]
    variables: Mapping[str, Any] = field(repr=False, hash=False)


@dataclass(frozen=True)
class Inventory:
    """All hosts and groups of one inventory file, `all` and `ungrouped` included."""

    path: Path
    hosts: tuple[Host, ...]
    groups: Mapping[str, Group] = field(hash=False)

    def select(self, limit: str | None) -> tuple[Host, ...]:
        """The hosts that Ansible's host pattern names, in inventory order; None: all.

        Raises:
            InventoryError: A part of the pattern names nothing; says which names exist.
        """
        if limit is None:
            return self.hosts
        names = [host.name for host in self.hosts]
        try:
            chosen = select_hosts(
                limit, names, {name: group.hosts for name, group in self.groups.items()}
            )
        except ValueError as error:
            raise InventoryError(
                f"host pattern {limit!r}: {error}",
                path=str(self.path),
                hint=f"hosts: {_listed(names)}; groups: {_listed(list(self.groups))}",
            ) from error
        return tuple(host for host in self.hosts if host.name in chosen)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN_MAX])
    return f"{shown}, …" if len(names) > _NAMES_SHOWN_MAX else shown or "none"


def load_inventory(path: Path) -> Inventory:
    """Read an INI inventory as Ansible does, with `group_vars/` and `host_vars/` beside it.

    Raises:
        InventoryError: It cannot be read as meant; carries file, line and column.
    """
    ini = read_ini(_read_text(path), str(path))
    files = {name: read_settings(path.parent / "group_vars", name) for name in ini.groups}
    members = {name: _hosts_of(ini, name) for name in ini.groups}
    ranks = _ranks(ini)
    hosts = tuple(
        build_host(
            name,
            tuple(group for group in ini.groups if name in members[group]),
            _effective_settings(path, ini, name, members, ranks, files),
            path,
        )
        for name in members["all"]
    )
    groups = {
        name: Group(
            name=name,
            hosts=tuple(members[name]),
            children=tuple(group.children),
            variables={key: s.value for key, s in (group.settings | files[name]).items()},
        )
        for name, group in ini.groups.items()
    }
    return Inventory(path, hosts, groups)


def _effective_settings(
    path: Path,
    ini: IniInventory,
    host: str,
    members: Mapping[str, Mapping[str, None]],
    ranks: Mapping[str, tuple[int, int, str]],
    files: Mapping[str, Settings],
) -> Settings:
    """A host's variables, the nearer over the farther; files of groups over the inventory's own."""
    groups = sorted((name for name in ini.groups if host in members[name]), key=ranks.__getitem__)
    merged: Settings = {}
    for group in groups:
        merged |= ini.groups[group].settings
    for group in groups:
        merged |= files[group]
    return merged | ini.hosts[host] | read_settings(path.parent / "host_vars", host)


def _hosts_of(ini: IniInventory, group: str) -> dict[str, None]:
    return {host: None for name in ini.descendants(group) for host in ini.groups[name].hosts}


def _ranks(ini: IniInventory) -> dict[str, tuple[int, int, str]]:
    """What groups are sorted by: distance from `all` by the longest way, priority, name."""
    depths = dict.fromkeys(ini.groups, 0)
    pending = ["all"]
    for parent in pending:
        for child in ini.groups[parent].children:
            if depths[child] <= depths[parent]:
                depths[child] = depths[parent] + 1
                pending.append(child)
    return {name: (depths[name], group.priority, name) for name, group in ini.groups.items()}


def _read_text(path: Path) -> str:
    origin = Origin(str(path))
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise origin.error(
            f"the inventory cannot be read: {error.strerror}", hint="give the path of an INI file"
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _decode_lines(raw, origin)


def _decode_lines(raw: bytes, origin: Origin) -> str:
    """Only comments may hold other bytes than UTF-8."""
    lines = []
    for number, line in enumerate(raw.splitlines(), start=1):
        try:
            lines.append("" if line[:1] in (b"#", b";") else line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise Origin(origin.path, number, error.start + 1).error("no UTF-8 text") from error
    return "\n".join(lines)
