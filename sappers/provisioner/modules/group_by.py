"""Puts hosts into groups by what is known of them."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Put each host into a group that its variables name, for the rest of the run.",
    (
        Argument("key", "str", "The group; blanks become dashes.", required=True),
        Argument("parents", "list", "Groups that this group is below.", default=["all"]),
    ),
    alone=True,
    returns=(("add_group, parent_groups", "the group, and what it is below"),),
    notes=("Plays that follow may name the group. Files of `group_vars` for it count.",),
)


def act(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """What to change; the engine takes it."""
    group = args["key"].replace(" ", "-")
    parents = [name.replace(" ", "-") for name in args["parents"]]
    wrong = next((one for one in (group, *parents) if not one or "/" in one or one[0] == "."), None)
    if wrong is not None:
        return {"failed": True, "msg": f"{wrong!r} is no name of a group"}
    known = control.variable("groups") or {}
    host = control.variable("inventory_hostname")
    changed = any(host not in known.get(name, ()) for name in (group, *parents))
    return {"changed": changed, "add_group": group, "parent_groups": parents}
