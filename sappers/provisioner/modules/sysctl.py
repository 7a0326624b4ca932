"""Sets kernel parameters, in a file and now."""

from __future__ import annotations

from typing import Any, Dict, List

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules.group import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Set a kernel parameter, in a file and now.",
    (
        Argument("name", "str", "The parameter.", required=True, aliases=("key",)),
        Argument("value", "str", "Its value.", aliases=("val",)),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("sysctl_file", "path", "The file.", default="/etc/sysctl.conf"),
        Argument("sysctl_set", "bool", "Set it now, too.", default=False),
        Argument("reload", "bool", "Load the file when it changed.", default=True),
        Argument("ignoreerrors", "bool", "Unknown parameters are no failure.", default=False),
    ),
    outward=False,
)


def plan(task: step.Task) -> step.Plan:
    """Change the file, then load it."""
    args = task.args
    if args["state"] == "present" and args["value"] in (None, ""):
        raise step.Failed("value cannot be None")
    path = args["sysctl_file"]
    there = ((yield step.Read(path)) or b"").decode("utf-8", "surrogateescape").splitlines()
    after = changed_lines(args, there)
    changed = False
    ignore = ("-e",) if args["ignoreerrors"] else ()
    if args["sysctl_set"] and args["state"] == "present":
        topic = "sysctl:" + args["name"]
        asked = yield step.Ask(("sysctl", "-n", args["name"]), topic=topic)
        if asked.out.split() != args["value"].split():
            setting = args["name"] + "=" + args["value"]
            implied = ((topic, (0, args["value"].encode(), b"")),)
            yield from execute(("sysctl", *ignore, "-w", setting), implied)
            changed = True
    if after != there:
        text = "".join(line + "\n" for line in after).encode("utf-8", "surrogateescape")
        yield from _files.ensure_content(path, text, {"mode": None})
        changed = True
        if args["reload"]:
            yield from execute(("sysctl", *ignore, "-p", path))
    return {"changed": changed}


def changed_lines(args: Dict[str, Any], there: List[str]) -> List[str]:
    """The file's lines, with the parameter as it shall be."""
    wanted = "{}={}".format(args["name"], args["value"])
    after: List[str] = []
    placed = args["state"] == "absent"
    for line in there:
        key, sign, value = line.partition("=")
        if line.lstrip().startswith(("#", ";")) or not sign or key.strip() != args["name"]:
            after.append(line)
        elif not placed:
            same = value.strip() == args["value"]
            after.append(line if same else wanted)
            placed = True
    return after if placed else [*after, wanted]
