"""Asks a database of the host: users, groups, hosts, services."""

from __future__ import annotations

from typing import Any, Dict, List

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Ask a database of the host: users, groups, hosts, services.",
    (
        Argument("database", "str", "passwd, group, hosts, services, …", required=True),
        Argument("key", "str", "The entry; all without."),
        Argument("service", "str", "Of the sources in nsswitch.conf only this one."),
        Argument("split", "str", "What fields are separated by; `:` or space by the database."),
        Argument("fail_key", "bool", "Fail where there is no such entry.", default=True),
    ),
    returns=(("ansible_facts", "`getent_DATABASE`: of each entry its fields"),),
    tells_facts=True,
    plain_facts=("getent_*",),
)
_WITH_COLONS = ("passwd", "shadow", "group", "gshadow")
_PROBLEMS = {
    1: "Missing arguments, or database unknown.",
    2: "One or more supplied key could not be found in the database.",
    3: "Enumeration not supported on this database.",
}


def plan(task: step.Task) -> step.Plan:
    """Ask; nothing is changed."""
    args = task.args
    database, key = args["database"], args["key"]
    command = ["getent", database, *([key] if key is not None else [])]
    if args["service"] is not None:
        command += ["-s", args["service"]]
    done = yield step.Ask(tuple(command))
    name = "getent_" + database
    if done.code == 2 and not args["fail_key"]:
        return {"changed": False, "ansible_facts": {name: {key: None}}, "msg": _PROBLEMS[2]}
    if done.code:
        raise step.Failed(_PROBLEMS.get(done.code, done.err.strip() or "getent cannot be run"))
    separator = args["split"] or (":" if database in _WITH_COLONS else None)
    return {"changed": False, "ansible_facts": {name: _entries(done.out, separator)}}


def _entries(text: str, separator: Any) -> Dict[str, Any]:
    """Fields by name; of a name that is there more than once a list of them."""
    found: Dict[str, List[List[str]]] = {}
    for line in text.splitlines():
        fields = line.split(separator)
        if fields:
            found.setdefault(fields[0], []).append(fields[1:])
    return {name: entries if len(entries) > 1 else entries[0] for name, entries in found.items()}
