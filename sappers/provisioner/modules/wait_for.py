"""Waits until a port answers, or a file is there."""

from __future__ import annotations

import re
from typing import Any, Dict

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Wait until a port answers, or a file is there; or until they are gone.",
    (
        Argument("host", "str", "Whose port.", default="127.0.0.1"),
        Argument("port", "int", "The port."),
        Argument("path", "path", "The file."),
        Argument("search_regex", "str", "What the file has to hold."),
        Argument("state", "str", "", default="started",
                 choices=("absent", "drained", "present", "started", "stopped")),
        Argument("timeout", "int", "Seconds until it fails.", default=300),
        Argument("connect_timeout", "int", "Seconds for one try.", default=5),
        Argument("delay", "int", "Seconds before the first try.", default=0),
        Argument("sleep", "int", "Seconds between tries.", default=1),
        Argument("msg", "str", "What to say when it fails."),
    ),
    outward=True,
    exclusive=(("port", "path"),),
    unsupported=(
        ("exclude_hosts", "all connections to the port count"),
        ("active_connection_states", "those count that Ansible counts by default"),
    ),
    returns=(("elapsed", "seconds it took"),
             ("match_groups, match_groupdict", "what `search_regex` found")),
)  # fmt: skip

# As the kernel writes them: ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT.
_ACTIVE = ("01", "02", "03", "04", "05", "06")


def plan(task: step.Task) -> step.Plan:
    """Look again and again; it changes nothing."""
    args = task.args
    began = yield step.Pause(0.0)
    now = yield step.Pause(float(args["delay"]))
    if args["search_regex"] is not None and args["path"] is None:
        raise step.Failed("search_regex is looked for in a file; name a path")
    if args["state"] == "drained" and args["port"] is None:
        raise step.Failed("state=drained should only be used for checking a port")
    if args["port"] is None and args["path"] is None:
        now = yield step.Pause(float(args["timeout"]))
        return {"changed": False, "elapsed": int(now - began), **_told(args, None)}
    wanted = args["state"] in ("present", "started")
    while True:
        found = yield from _found(args)
        if bool(found) == wanted:
            break
        now = yield step.Pause(0.0)
        if now - began >= args["timeout"]:
            message = args["msg"] or "Timeout when waiting for " + _what(args)
            raise step.Failed(message, elapsed=int(now - began))
        yield step.Pause(float(args["sleep"]))
    now = yield step.Pause(0.0)
    told = _told(args, found if isinstance(found, re.Match) else None)
    if wanted and args["path"] is not None:
        told.update((yield from _files.describe(args["path"])))
    return {"changed": False, "elapsed": int(now - began), **told}


def _told(args: Dict[str, Any], match: Any) -> Dict[str, Any]:
    told = {name: args[name] for name in ("path", "port", "state", "search_regex")}
    told["match_groups"] = list(match.groups()) if match else []
    told["match_groupdict"] = match.groupdict() if match else {}
    return told


def _what(args: Dict[str, Any]) -> str:
    """What it waited for, in Ansible's words."""
    path, there = args["path"], "{host}:{port}".format(**args)
    if args["state"] == "drained":
        return there + " to drain"
    if args["state"] in ("absent", "stopped"):
        return f"{path} to be absent." if path else there + " to stop."
    if args["search_regex"] is not None:
        return f"search string {args['search_regex']} in {path}"
    return f"file {path}" if path else there


def _found(args: Dict[str, Any]) -> step.Steps:
    """Whether it is there; where a text is looked for, the match."""
    if args["state"] == "drained":
        return (yield from _connections(args["port"]))
    if args["path"] is None:
        seconds = float(args["connect_timeout"])
        return (yield step.Connect(args["host"], args["port"], seconds))
    found = yield step.Stat(args["path"], True)
    if found is None or args["search_regex"] is None:
        return found is not None
    text = ((yield step.Read(args["path"])) or b"").decode("utf-8", "replace")
    return re.search(args["search_regex"], text, re.MULTILINE)


def _connections(port: int) -> step.Steps:
    """Whether anybody is connected to a port of this host."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in ((yield step.Read(table)) or b"").decode().splitlines()[1:]:
            words = line.split()
            if int(words[1].rpartition(":")[2], 16) == port and words[3] in _ACTIVE:
                return True
    return False
