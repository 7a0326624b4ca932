"""Ansible's magic variables: the host's own name, the groups, the other hosts, the play."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sappers.provisioner.inventory.inventory import Host, Inventory
from sappers.provisioner.playbook.model import Inherited
from sappers.provisioner.playbook.options import RunOptions

ANSIBLE_VERSION = {"full": "2.19.0", "major": 2, "minor": 19, "revision": 0, "string": "2.19.0"}


class HostVars(Mapping[str, Any]):
    """`hostvars`: the variables of each host, made when asked for."""

    def __init__(self, names: Sequence[str], view: Callable[[str], Any]) -> None:
        self._names = names
        self._view = view

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._view(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def inventory_magic(inventory: Inventory, host: Host) -> dict[str, Any]:
    """What follows from the inventory alone."""
    groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
    folder, path = inventory.folder, inventory.path.absolute()
    return {
        "inventory_hostname": host.name,
        "inventory_hostname_short": host.name.split(".", 1)[0],
        "inventory_file": str(path) if folder is not None and path.is_file() else None,
        "inventory_dir": str(folder.absolute()) if folder is not None else None,
        "group_names": sorted(set(host.groups) - {"all", "ungrouped"}),
        "groups": groups,
    }


def play_magic(
    folder: Path, name: str, options: RunOptions, roles: Sequence[str], in_play: Sequence[str]
) -> dict[str, Any]:
    """What follows from the play.

    Args:
        in_play: All hosts that the play names.
    """
    return {
        "playbook_dir": str(folder.absolute()),
        "ansible_play_name": name,
        "ansible_play_hosts_all": list(in_play),
        "ansible_play_role_names": list(roles),
        "role_names": list(roles),
        "ansible_role_names": list(roles),
        "ansible_check_mode": options.check,
        "ansible_diff_mode": options.diff,
        "ansible_verbosity": options.verbosity,
        "ansible_forks": options.forks,
        "ansible_run_tags": sorted(options.tags),
        "ansible_skip_tags": sorted(options.skip_tags),
        "ansible_version": ANSIBLE_VERSION,
        **({"ansible_limit": options.limit} if options.limit else {}),
    }


def task_magic(inherited: Inherited) -> dict[str, Any]:
    """What follows from the role that a task is in."""
    role = inherited.role
    if role is None:
        return {}
    return {
        "role_name": role.name.rpartition("/")[2],
        "ansible_role_name": role.name,
        "role_path": str(role.folder.absolute()),
        "ansible_parent_role_names": list(reversed(role.parents)),
    }
