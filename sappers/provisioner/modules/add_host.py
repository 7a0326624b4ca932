"""Adds a host to the inventory of the run."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Add a host to the inventory, or to groups, for the rest of the run.",
    (
        Argument("name", "str", "Its name, or name:port.", required=True,
                 aliases=("hostname", "host")),
        Argument("groups", "list", "Groups it is in; new ones are made.",
                 aliases=("group", "groupname")),
    ),
    any_arguments=True,
    alone=True,
    once=True,
    returns=(("add_host", "`host_name`, `groups` and `host_vars`, as understood"),),
    notes=(
        "All other arguments are variables of the host. Plays that follow may name it. Runs once.",
    ),
)  # fmt: skip
_ALIASES = ("name", "hostname", "host", "groups", "group", "groupname")


def act(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """What to add; the engine takes it."""
    name = args["name"]
    variables = {key: value for key, value in args.items() if key not in _ALIASES}
    head, _, port = name.rpartition(":")
    if head and ":" not in head and port.isdigit():
        name, variables["ansible_ssh_port"] = head, int(port)
    groups = [group for group in args["groups"] or () if group]
    wrong = next((one for one in (name, *groups) if not one or "/" in one or one[0] == "."), None)
    if wrong is not None:
        return {"failed": True, "msg": f"{wrong!r} is no name of a host or group"}
    if _holds_template(variables):
        # What a host has said must not be rendered when the variable is used.
        return {"failed": True, "msg": "a value holds what looks like a template"}
    known = control.variable("groups") or {}
    changed = name not in known.get("all", ())
    changed = changed or any(name not in known.get(group, ()) for group in groups)
    if not changed and variables:
        there = control.variable("hostvars")[name]
        changed = any(key not in there or there[key] != value for key, value in variables.items())
    told = {"host_name": name, "groups": groups, "host_vars": variables}
    return {"changed": changed, "add_host": told}


def _holds_template(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_template(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple):
        return any(_holds_template(one) for one in value)
    return isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))
