"""Tells which packages the host has."""

from __future__ import annotations

from typing import Any, Dict, List

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Tell which packages the host has.",
    (
        Argument("manager", "list", "Which to ask: auto, apt, rpm.", default=["auto"]),
        Argument("strategy", "str", "Stop at the first that has some, or ask all.",
                 default="first", choices=("first", "all")),
    ),
    returns=(("ansible_facts", "`packages`: of each name a list with version and architecture"),),
    tells_facts=True,
    plain_facts=("packages",),
)  # fmt: skip
_TAB = r"\t"
_MANAGERS = {
    "apt": (
        ("dpkg-query", "-W", "-f",
         _TAB.join(("${db:Status-Status}", "${Package}", "${Version}", "${Architecture}",
                    "${Section}", r"${Origin}\n"))),
        ("status", "name", "version", "arch", "category", "origin"),
    ),
    "rpm": (
        ("rpm", "-qa", "--queryformat",
         _TAB.join(("installed", "%{NAME}", "%{VERSION}", "%{RELEASE}", "%{EPOCH}", r"%{ARCH}\n"))),
        ("status", "name", "version", "release", "epoch", "arch"),
    ),
}  # fmt: skip
_ALIASES = {"dnf": "rpm", "dnf5": "rpm", "yum": "rpm", "zypper": "rpm"}


def plan(task: step.Task) -> step.Plan:
    """Ask; nothing is changed."""
    wanted = _managers(task.args["manager"])
    found: Dict[str, List[Dict[str, Any]]] = {}
    for manager in wanted:
        command, fields = _MANAGERS[manager]
        done = yield step.Ask(command)
        for line in done.out.splitlines() if not done.code else ():
            told = dict(zip(fields, line.split("\t")))
            if told.pop("status") == "installed":
                found.setdefault(told["name"], []).append({**told, "source": manager})
        if found and task.args["strategy"] == "first":
            break
    if not found:
        names = ", ".join(wanted)
        raise step.Failed(f"Could not detect a supported package manager of: {names}")
    return {"changed": False, "ansible_facts": {"packages": found}}


def _managers(given: List[str]) -> List[str]:
    names: Dict[str, None] = {}
    for one in given:
        name = _ALIASES.get(one.lower(), one.lower())
        if name == "auto":
            names.update(dict.fromkeys(_MANAGERS))
        elif name in _MANAGERS:
            names[name] = None
        else:
            raise step.Failed(f"Unsupported package managers requested: {one}")
    return list(names)
