"""Makes a file or a folder with a name that nobody else has."""

from __future__ import annotations

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules._programs import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Make a file or a folder with a name that nobody else has.",
    (
        Argument("state", "str", "", default="file", choices=("file", "directory")),
        Argument("path", "path", "The folder to make it in; the system's own without."),
        Argument("prefix", "str", "What the name begins with.", default="ansible."),
        Argument("suffix", "str", "What the name ends with.", default=""),
    ),
    returns=(("path", "where it is"), ("mode, owner, group, size, state", "what it is")),
    notes=("Check mode skips it: the name is not known before.",),
)


def plan(task: step.Task) -> step.Plan:
    """Make it."""
    args = task.args
    for name in ("prefix", "suffix"):
        if "/" in args[name]:
            raise step.Failed(f"{name} must be a valid file name component, got {args[name]!r}")
    if task.check:
        message = "remote module (tempfile) does not support check mode"
        return {"changed": False, "skipped": True, "msg": message}
    command = ["mktemp", "-p", args["path"] or "/tmp"]  # noqa: S108 — as Ansible, and mktemp is safe
    if args["state"] == "directory":
        command.append("-d")
    name = args["prefix"] + "XXXXXXXX" + args["suffix"]
    done = yield from execute((*command, "--", name))
    path = done["stdout"].strip()
    return {"changed": True, "path": path, **(yield from _files.describe(path))}
