"""Reads a file of the host."""

from __future__ import annotations

import base64

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Read a file of the host.",
    (Argument("src", "path", "The file.", required=True, aliases=("path",)),),
    returns=(("content", "the file, in base64"), ("encoding", "base64"), ("source", "the path")),
)


def plan(task: step.Task) -> step.Plan:
    """Read it."""
    path = task.args["src"]
    found = yield step.Stat(path, True)
    if found is None:
        raise step.Failed(f"File not found: {path}")
    if found.kind == "directory":
        raise step.Failed(f"source is a directory and must be a file: {path}")
    content = yield step.Read(path)
    encoded = base64.b64encode(content or b"").decode()
    return {"changed": False, "content": encoded, "encoding": "base64", "source": path}
