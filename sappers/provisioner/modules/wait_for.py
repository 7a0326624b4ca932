"""Waits until a port answers, or a file is there."""

from __future__ import annotations

import re
from typing import Any, Dict

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Wait until a port answers, or a file is there; or until they are gone.",
    (
        Argument("host", "str", "Whose port.", default="127.0.0.1"),
        Argument("port", "int", "The port."),
        Argument("path", "path", "The file."),
        Argument("search_regex", "str", "What the file has to hold."),
        Argument("state", "str", "", default="started",
                 choices=("absent", "present", "started", "stopped")),
        Argument("timeout", "int", "Seconds until it fails.", default=300),
        Argument("connect_timeout", "int", "Seconds for one try.", default=5),
        Argument("delay", "int", "Seconds before the first try.", default=0),
        Argument("sleep", "int", "Seconds between tries.", default=1),
        Argument("msg", "str", "What to say when it fails."),
    ),
    outward=True,
    exclusive=(("port", "path"),),
    unsupported=(
        ("exclude_hosts", "connections are not drained"),
        ("active_connection_states", "connections are not drained"),
    ),
    returns=(("elapsed", "seconds it took"),),
)  # fmt: skip


def plan(task: step.Task) -> step.Plan:
    """Look again and again; it changes nothing."""
    args = task.args
    began = yield step.Pause(0.0)
    now = yield step.Pause(float(args["delay"]))
    if args["port"] is None and args["path"] is None:
        now = yield step.Pause(float(args["timeout"]))
        return {"changed": False, "elapsed": int(now - began)}
    wanted = args["state"] in ("present", "started")
    while (yield from _is_there(args)) != wanted:
        now = yield step.Pause(0.0)
        if now - began >= args["timeout"]:
            what = args["path"] or "{}:{}".format(args["host"], args["port"])
            message = args["msg"] or f"Timeout when waiting for {what}"
            raise step.Failed(message, elapsed=int(now - began))
        yield step.Pause(float(args["sleep"]))
    now = yield step.Pause(0.0)
    told = {name: args[name] for name in ("path", "port", "state", "search_regex")}
    return {"changed": False, "elapsed": int(now - began), **told}


def _is_there(args: Dict[str, Any]) -> step.Steps:
    if args["path"] is None:
        seconds = float(args["connect_timeout"])
        return (yield step.Connect(args["host"], args["port"], seconds))
    found = yield step.Stat(args["path"], True)
    if found is None or args["search_regex"] is None:
        return found is not None
    text = ((yield step.Read(args["path"])) or b"").decode("utf-8", "replace")
    return re.search(args["search_regex"], text, re.MULTILINE) is not None
