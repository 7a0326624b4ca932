"""Loads a kernel module, or unloads it."""

from __future__ import annotations

from typing import Any, Dict

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules.group import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Load a kernel module, or unload it.",
    (
        Argument("name", "str", "The module.", required=True),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("params", "str", "Parameters for it.", default=""),
        Argument("persistent", "str", "At boot, too.", default="disabled",
                 choices=("absent", "disabled", "present")),
    ),
    returns=(("name, state, params", "as asked for"),),
)  # fmt: skip


def plan(task: step.Task) -> step.Plan:
    """By modprobe, and files below /etc/modules-load.d and /etc/modprobe.d."""
    args = task.args
    name = args["name"]
    plain = name.replace("-", "_")
    loaded = (yield step.Stat("/sys/module/" + plain)) is not None
    asked = yield step.Ask(("modprobe", "-n", name), topic="modprobe:" + plain)
    changed = False
    if args["state"] == "present" and not loaded and asked.out != "loaded":
        implied = (("modprobe:" + plain, (0, b"loaded", b"")),)
        yield from execute(("modprobe", name, *args["params"].split()), implied)
        changed = True
    if args["state"] == "absent" and loaded:
        yield from execute(("modprobe", "-r", name))
        changed = True
    if args["persistent"] != "disabled":
        changed = bool((yield from _persist(args, name))) or changed
    return {"changed": changed, "name": name, "state": args["state"], "params": args["params"]}


def _persist(args: Dict[str, Any], name: str) -> step.Steps:
    changed = False
    options = f"options {name} {args['params']}\n" if args["params"] else ""
    for folder, content in (("modules-load.d", name + "\n"), ("modprobe.d", options)):
        path = f"/etc/{folder}/{name}.conf"
        if args["persistent"] == "present" and content:
            done = yield from _files.ensure_content(path, content.encode(), {"mode": None})
            changed = changed or done["changed"]
        elif (yield step.Stat(path)) is not None:
            yield step.Remove(path)
            changed = True
    return changed
