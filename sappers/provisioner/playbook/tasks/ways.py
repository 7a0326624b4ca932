"""Where a task is run and as whom: by its keywords, by variables, by the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sappers.provisioner.inventory.become import method_named
from sappers.provisioner.inventory.host import Host
from sappers.provisioner.inventory.reach import (
    FIELDS,
    LAST_SSH_ARGS,
    LOCAL_CONNECTIONS,
    NAMES,
    fields_said,
    is_local,
    ssh_options,
)
from sappers.provisioner.inventory.ssh_options import read_port
from sappers.provisioner.playbook.language.keywords import to_bool
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.tasks.options import RunOptions
from sappers.provisioner.playbook.tasks.variables import NO_PLACE, Scope
from sappers.provisioner.playbook.templates.values import MISSING, OMIT
from sappers.provisioner.source import Place, Text

# Old names follow the new ones, whoever sets these.
_THE_HOST, _THE_USER = (
    Text(f"{{{{ {name} }}}}", NO_PLACE) for name in ("ansible_host", "ansible_user")
)
Reached = tuple[tuple[str, Any], ...]


class Way(msgspec.Struct, frozen=True):
    """Where a task is run, and as whom.

    Attributes:
        user: Whom it runs as; None: who is logged in.
        become_method: How it becomes the user; None: as the inventory says.
        delegate_to: The host, where it is not the task's own.
        reached: Fields of that host which are others than the inventory says, with their values.
        is_local: It is this machine.
    """

    user: str | None = None
    become_method: str | None = None
    delegate_to: str | None = None
    reached: Reached = ()
    is_local: bool = False


def way_of(task: Task, scope: Scope, options: RunOptions) -> Way:
    """The way of a task on a host, or of one turn of its loop.

    Raises:
        PlaybookError: A template is wrong, or a value makes no sense.
        ValueError: The same, of a variable.
    """

    def keyword(name: str) -> Any:
        if (value := task.setting(name)) is None:
            return None
        asking = scope.for_keywords() if name in ("connection", "remote_user") else scope
        rendered = scope.templates.render(value, asking, task.place)
        return None if rendered is OMIT else rendered

    delegate = keyword("delegate_to")
    if delegate is not None and not str(delegate).strip():
        raise task.place.error("`delegate_to` yields no name of a host")
    there = scope if delegate is None else scope.on(str(delegate))
    reached = reached_by(keyword, there, options)
    return Way(
        user=_user(keyword, there, options, task.place),
        become_method=_method(keyword, there, options),
        delegate_to=None if delegate is None else str(delegate),
        reached=tuple(sorted(reached.items())),
        is_local=bool(reached.get("is_local", _is_here(there))),
    )


def reached_by(keyword: Callable[[str], Any], scope: Scope, options: RunOptions) -> dict[str, Any]:
    """What is other than the inventory says of how a host is reached.

    A variable counts more than a keyword, and that more than the command line, as in Ansible.

    Raises:
        ValueError: A value makes no sense.
    """

    def find(name: str) -> Any:
        found = scope.said(name)
        return None if found is MISSING or found is OMIT else found

    said = fields_said(find) if scope.adds_to_inventory(NAMES) else {}
    if by_name := options.ssh_arguments:
        said["common_args"] = ssh_options(
            lambda name: find(name) or by_name.get(name), by_name.get(LAST_SSH_ARGS, "")
        )
    connection = keyword("connection") or options.connection
    user, port = keyword("remote_user") or options.user, keyword("port")
    otherwise = {
        "is_local": None if connection is None else is_local(connection),
        "user": None if user is None else str(user),
        "port": None if port is None else read_port(port),
        "private_key_file": options.private_key_file,
    }
    for field, value in otherwise.items():
        if value is not None and not any(find(name) for name in FIELDS[field][0]):
            said[field] = value
    return said


def usual_way(host: Host, settings: Mapping[str, Any], options: RunOptions) -> dict[str, Any]:
    """The variables that tasks have of how a host is reached where nobody sets them, as in Ansible.

    Args:
        settings: Keywords of the task, its own and inherited.
    """
    user = host.user or settings.get("remote_user") or options.user
    return {
        "ansible_connection": settings.get("connection") or options.connection or "ssh",
        "ansible_host": host.address,
        "ansible_ssh_host": _THE_HOST,
        **({} if user is None else {"ansible_user": user, "ansible_ssh_user": _THE_USER}),
    }


def _is_here(scope: Scope) -> bool:
    return str(scope.said("ansible_connection")) in LOCAL_CONNECTIONS


def _user(
    keyword: Callable[[str], Any], scope: Scope, options: RunOptions, place: Place
) -> str | None:
    become = keyword("become")
    become = options.become if become is None else become
    variable = scope.find("ansible_become")
    name = "become"
    if isinstance(variable, bool | str | int):
        name, become = "ansible_become", variable
    if not to_bool(name, become, place):
        return None
    named = scope.find("ansible_become_user")
    if not (isinstance(named, str) and named):
        named = keyword("become_user") or options.become_user
    return str(named or "root")


def _method(keyword: Callable[[str], Any], scope: Scope, options: RunOptions) -> str | None:
    named = scope.find("ansible_become_method")
    if not (isinstance(named, str) and named):
        named = keyword("become_method") or options.become_method
    return method_named(str(named)) if named else None
