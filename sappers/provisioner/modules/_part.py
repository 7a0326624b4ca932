"""Reads a part of a file, for `fetch`; no module of its own."""

from __future__ import annotations

import base64

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Read a part of a file.",
    (
        Argument("path", "path", "The file.", required=True),
        Argument("offset", "int", "Where the part begins.", default=0),
        Argument("length", "int", "How many bytes.", required=True),
        Argument("have", "str", "SHA-1 of what is had; the same is not sent.", default=""),
    ),
)


def plan(task: step.Task) -> step.Plan:
    """Say what is there, and its part."""
    args = task.args
    path = args["path"]
    digests = ("sha1", "md5") if args["offset"] == 0 else ()
    found = yield step.Stat(path, True, digests)
    if found is None:
        return {"changed": False, "state": "absent", "path": path}
    told = {"changed": False, "state": found.kind, "path": path, "size": found.size}
    if found.kind != "file":
        return told
    told.update(checksum=found.digests.get("sha1"), md5sum=found.digests.get("md5"))
    if not args["have"] or args["have"] != told["checksum"]:
        content = yield step.ReadPart(path, args["offset"], args["length"])
        told["content"] = base64.b64encode(content).decode()
    return told
