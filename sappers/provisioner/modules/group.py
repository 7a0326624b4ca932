"""Makes a group be there, or not."""

from __future__ import annotations

from typing import Any, Dict

from sappers.provisioner.modules import step
from sappers.provisioner.modules._programs import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Make a group be there, or not.",
    (
        Argument("name", "str", "Its name.", required=True),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("gid", "int", "Its number."),
        Argument("system", "bool", "Take a number of the system's.", default=False),
        Argument("non_unique", "bool", "The number may be taken.", default=False),
        Argument("force", "bool", "Remove it although it is a user's own.", default=False),
    ),
    unsupported=(
        ("local", "groups are made in /etc/group; leave it out"),
        ("gid_min", "set GID_MIN in /etc/login.defs"),
        ("gid_max", "set GID_MAX in /etc/login.defs"),
    ),
    returns=(("gid", "its number"), ("name, state, system", "as asked for")),
)


def plan(task: step.Task) -> step.Plan:
    """Make it so."""
    args = task.args
    name = args["name"]
    topic = "group:" + name
    found = yield step.Account("group", name)
    result: Dict[str, Any] = {"name": name, "state": args["state"], "changed": False}
    if args["state"] == "absent":
        if found is not None:
            force = ("-f",) if args["force"] else ()
            yield from execute(("groupdel", *force, name), ((topic, None),))
            result["changed"] = True
        return result
    number = () if args["gid"] is None else ("-g", str(args["gid"]))
    unique = ("-o",) if args["non_unique"] and number else ()
    entry = {"name": name, "gid": args["gid"] or 999, "members": []}
    if found is None:
        system = ("-r",) if args["system"] else ()
        command = ("groupadd", *number, *unique, *system, name)
        yield from execute(command, ((topic, entry), ("group:%d" % entry["gid"], entry)))
        result["changed"] = True
    elif args["gid"] is not None and found["gid"] != args["gid"]:
        yield from execute(("groupmod", *number, *unique, name), ((topic, {**found, **entry}),))
        result["changed"] = True
    now = yield step.Account("group", name)
    return {**result, "system": args["system"], "gid": now["gid"] if now else None}
