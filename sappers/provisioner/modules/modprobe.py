"""Loads a kernel module, or unloads it."""

from __future__ import annotations

from typing import Any, Dict, List

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules._programs import execute
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

_LOADED, _SETTINGS = "/etc/modules-load.d", "/etc/modprobe.d"


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
    """Lines of all files count; what is taken back becomes a comment, wherever it is."""
    options = args["params"].split()
    loads, settings = [name], [f"options {name} {one}" for one in options]
    changed = False
    for folder, wanted in ((_LOADED, loads), (_SETTINGS, settings)):
        lines = yield from _lines(folder, name)
        there = {line for found in lines.values() for line in found if _means(line, name)}
        right = bool(there) if folder == _LOADED else there == set(wanted)
        if args["persistent"] == "present" and right:
            continue
        if args["persistent"] == "absent" or folder == _SETTINGS:
            changed = (yield from _comment_out(folder, lines, name)) or changed
        if args["persistent"] == "present" and wanted:
            content = "".join(line + "\n" for line in wanted)
            path = f"{folder}/{name}.conf"
            yield from _files.ensure_content(path, content.encode(), {"mode": None})
            changed = True
    return changed


def _lines(folder: str, name: str) -> step.Steps:
    """The lines of the files that have one about this module."""
    found: Dict[str, List[str]] = {}
    for file in (yield step.Names(folder)) or ():
        content = (yield step.Read(folder + "/" + file)) or b""
        lines = content.decode("utf-8", "surrogateescape").splitlines()
        if any(_means(line, name) for line in lines):
            found[file] = lines
    return found


def _means(line: str, name: str) -> bool:
    words = line.split("#")[0].split(";")[0].split()
    return words == [name] or (words[:2] == ["options", name] and len(words) == 3)


def _comment_out(folder: str, files: Dict[str, List[str]], name: str) -> step.Steps:
    for file, lines in files.items():
        text = "".join(("#" if _means(line, name) else "") + line + "\n" for line in lines)
        content = text.encode("utf-8", "surrogateescape")
        yield from _files.ensure_content(folder + "/" + file, content, {"mode": None})
    return bool(files)
