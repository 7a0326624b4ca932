"""Sets kernel parameters, in a file and now."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules._programs import execute
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
    """Set it now where that is asked for; then the file, which is loaded where either differs."""
    args = dict(task.args, name=task.args["name"].strip(), value=_value(task.args["value"]))
    if args["state"] == "present" and not args["value"]:
        raise step.Failed("value cannot be None")
    path, name, value = args["sysctl_file"], args["name"], args["value"]
    there = ((yield step.Read(path)) or b"").decode("utf-8", "surrogateescape").splitlines()
    written = _values(there).get(name)
    topic = "sysctl:" + name
    asked = yield step.Ask(("sysctl", "-e", "-n", name), topic=topic)
    implied = ((topic, (0, value.encode(), b"")),)
    differs = args["state"] == "present" and asked.out.split() != value.split()
    ignore = ("-e",) if args["ignoreerrors"] else ()
    if differs and args["sysctl_set"]:
        yield from execute(("sysctl", *ignore, "-w", name + "=" + value), implied)
    writes = written != value if args["state"] == "present" else written is not None
    if writes:
        after = "".join(line + "\n" for line in changed_lines(args, there))
        content = after.encode("utf-8", "surrogateescape")
        yield from _files.ensure_content(path, content, {"mode": None})
    changed = writes or (differs and (args["sysctl_set"] or args["reload"]))
    if changed and args["reload"]:
        yield from execute(("sysctl", *ignore, "-p", path), implied if differs else ())
    return {"changed": changed}


def _value(given: Optional[str]) -> str:
    """As the kernel takes it."""
    value = (given or "").strip()
    if value.lower() in ("yes", "on", "true", "y", "t"):
        return "1"
    return "0" if value.lower() in ("no", "off", "false", "n", "f") else value


def _values(lines: List[str]) -> Dict[str, str]:
    """What a file sets, by parameter."""
    found: Dict[str, str] = {}
    for line in lines:
        key, sign, value = line.strip().partition("=")
        if sign and not key.startswith(("#", ";")):
            found[key.strip()] = value.strip()
    return found


def changed_lines(args: Dict[str, Any], there: List[str]) -> List[str]:
    """The file's lines, each parameter once, with the one that is meant as it shall be."""
    after: List[str] = []
    known = set()
    for line in there:
        key, sign, value = (part.strip() for part in line.strip().partition("="))
        if not sign or key.startswith(("#", ";")):
            after.append(line)
        elif key not in known:
            known.add(key)
            if key != args["name"]:
                after.append(key + "=" + value)
            elif args["state"] == "present":
                after.append(key + "=" + args["value"])
    if args["state"] == "present" and args["name"] not in known:
        after.append(args["name"] + "=" + args["value"])
    return after
