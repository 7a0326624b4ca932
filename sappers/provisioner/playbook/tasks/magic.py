"""Ansible's magic variables: the host's own name, the groups, the other hosts, the play."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sappers.provisioner.inventory.host_values import short_name
from sappers.provisioner.inventory.inventory import Host, Inventory
from sappers.provisioner.playbook.language.model import Inherited, Role
from sappers.provisioner.playbook.tasks.options import RunOptions

# Of what `play_magic` makes, what is no play's own: `hostvars` has it, too.
_OF_THE_RUN = (
    "ansible_check_mode", "ansible_diff_mode", "ansible_forks", "ansible_limit",
    "ansible_playbook_python", "ansible_run_tags", "ansible_skip_tags", "ansible_verbosity",
    "ansible_version", "playbook_dir",
)  # fmt: skip
_LOCALHOST = "localhost"
ANSIBLE_VERSION = {"full": "2.19.0", "major": 2, "minor": 19, "revision": 0, "string": "2.19.0"}


class HostVars(Mapping[str, Any]):
    """`hostvars`: the variables of each host, made when asked for.

    That of `localhost` is there, though not counted, where the inventory does not name it.
    """

    def __init__(self, names: Sequence[str], view: Callable[[str], Any]) -> None:
        self._names = names
        self._view = view

    def __getitem__(self, name: str) -> Any:
        if name not in self._names and name != _LOCALHOST:
            raise KeyError(name)
        return self._view(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def inventory_magic(inventory: Inventory, host: Host) -> dict[str, Any]:
    """What follows from the inventory alone."""
    groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
    source = inventory.named_in(host.name)
    file = source.absolute() if source is not None and source.is_file() else None
    return {
        "ansible_inventory_sources": inventory.sources,
        "inventory_hostname": host.name,
        "inventory_hostname_short": short_name(host.name),
        "inventory_file": None if source is None else str(file or source),
        "inventory_dir": None if file is None else str(file.parent),
        "group_names": sorted(set(host.groups) - {"all"}),
        "groups": groups,
    }


def play_magic(
    folder: Path, name: str, options: RunOptions, roles: Sequence[Role], in_play: Sequence[str]
) -> dict[str, Any]:
    """What follows from the play.

    Args:
        roles: Those loaded so far; more come with what is included.
        in_play: All hosts that the play names.
    """

    def asked() -> list[str]:
        of_play, of_tasks = (
            [role.name for role in roles if role.origin == origin] for origin in ("play", "task")
        )
        return of_play + of_tasks

    def needed() -> list[str]:
        return list(dict.fromkeys(name for role in roles for name in role.dependencies))

    return {
        "playbook_dir": str(folder.absolute()),
        "ansible_play_name": name,
        "ansible_play_hosts_all": list(in_play),
        "ansible_playbook_python": sys.executable,
        "ansible_play_role_names": asked,
        "ansible_dependent_role_names": needed,
        "ansible_role_names": lambda: list(dict.fromkeys([*needed(), *asked()])),
        "role_names": asked,
        "ansible_check_mode": options.check,
        "ansible_diff_mode": options.diff,
        "ansible_verbosity": options.verbosity,
        "ansible_forks": options.forks,
        "ansible_run_tags": sorted(options.tags),
        "ansible_skip_tags": sorted(options.skip_tags),
        "ansible_version": ANSIBLE_VERSION,
        **({"ansible_limit": options.limit} if options.limit else {}),
    }


def of_the_run(made: Mapping[str, Any]) -> dict[str, Any]:
    """What `play_magic` made that is the same in all plays."""
    return {name: made[name] for name in _OF_THE_RUN if name in made}


def task_magic(inherited: Inherited) -> dict[str, Any]:
    """What follows from where a task is written, and the role that it is in."""
    found = {"ansible_search_path": [str(folder.absolute()) for folder in inherited.folders]}
    role = inherited.role
    if role is None:
        return found
    above = list(reversed(role.parents))
    of_parents = {
        "ansible_parent_role_names": [one.name for one in above],
        "ansible_parent_role_paths": [str(one.folder.absolute()) for one in above],
    }
    return found | {
        "role_name": role.short_name,
        "ansible_role_name": role.name,
        "ansible_collection_name": role.collection,
        "role_path": str(role.folder.absolute()),
        **(of_parents if above else {}),
    }
