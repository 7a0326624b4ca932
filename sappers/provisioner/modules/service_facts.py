"""Tells which services the host has, and which of them run."""

from __future__ import annotations

import re
from typing import Any, Dict

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Module

SPEC = Module(
    "Tell which services the host has, and which of them run.",
    outward=True,
    returns=(("ansible_facts", "`services`: of each its name, state, status and source"),),
    tells_facts=True,
    plain_facts=("services",),
)
_BROKEN = ("not-found", "masked", "failed")
_SCRIPT = re.compile(r"^\s*\[ ([+-]) \]\s+(.+)$", re.MULTILINE)
Services = Dict[str, Dict[str, Any]]


def plan(task: step.Task) -> step.Plan:
    """Ask `service` and systemd; nothing is changed."""
    del task
    found: Services = {}
    scripts = yield step.Ask(("service", "--status-all"))
    for sign, name in _SCRIPT.findall(scripts.out):
        state = "running" if sign == "+" else "stopped"
        found[name] = {"name": name, "state": state, "source": "sysv"}
    if (yield step.Stat("/run/systemd/system")) is not None:
        yield from _of_systemd(found)
    if not found:
        return {"changed": False, "skipped": True, "msg": "Failed to find any services."}
    return {"changed": False, "ansible_facts": {"services": found}}


def _of_systemd(found: Services) -> step.Steps:
    listed = yield step.Ask(
        ("systemctl", "list-units", "--no-pager", "--type", "service", "--all", "--plain")
    )
    for fields in _rows(listed.out, 4):
        status = next((one for one in _BROKEN if one in fields[:-1]), fields[2])
        state = "running" if fields[3] == "running" else "stopped"
        found[fields[0]] = _described(fields[0], state, status)
    files = yield step.Ask(
        ("systemctl", "list-unit-files", "--no-pager", "--type", "service", "--all")
    )
    for name, status, *_ in _rows(files.out, 2):
        if name in found:
            if found[name]["status"] not in _BROKEN:
                found[name]["status"] = status
            continue
        shown = yield step.Ask(("systemctl", "show", name, "--property=ActiveState"))
        state = shown.out.replace("ActiveState=", "").strip() if not shown.code else ""
        found[name] = _described(name, state or "unknown", status)


def _rows(text: str, count: int) -> Any:
    rows = (line.split() for line in text.splitlines() if ".service" in line)
    return (fields for fields in rows if len(fields) >= count)


def _described(name: str, state: str, status: str) -> Dict[str, Any]:
    return {"name": name, "state": state, "status": status, "source": "systemd"}
