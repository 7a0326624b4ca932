"""Brings a file of the host to the control machine."""

from __future__ import annotations

import base64
import posixpath
from typing import Any

from sappers.provisioner.modules import control_step, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Bring a file of the host here.",
    (
        Argument("src", "str", "The file on the host.", required=True),
        Argument(
            "dest",
            "str",
            "The folder for it here; below it each host has one of its own.",
            required=True,
        ),
        Argument("flat", "bool", "`dest` is the file, or with a / the folder.", default=False),
        Argument("fail_on_missing", "bool", "Fail when there is no such file.", default=True),
        Argument("validate_checksum", "bool", "Fail when it changes meanwhile.", default=True),
    ),
    returns=(
        ("dest", "where it is here"),
        ("file", "the path on the host"),
        ("checksum, remote_checksum", "SHA-1 of it"),
        ("md5sum", "MD5 of it"),
    ),
    notes=(
        "Nothing is written outside `dest`, whatever the host says; links in it are not followed.",
        "Check mode skips it.",
    ),
)
PART_BYTES = 4 * 1024 * 1024


def prepare(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """Where it goes."""
    dest = control.destination("dest", args["dest"])
    host = control.variable("inventory_hostname")
    return {"_dest": dest, "_is_folder": control.is_folder(dest), "_host": host}


def conduct(task: step.Task) -> step.Plan:
    """Ask for the file unless it is here already, part by part."""
    args = task.args
    if task.check:
        return {"skipped": True, "msg": "check mode not (yet) supported for this module"}
    source = args["src"]
    plain = not source.startswith("~") and "$" not in source
    here = (yield control_step.Kept(*_place(args, source))) if plain else None
    part = yield _wanted(source, 0, here or "")
    if part.get("failed"):
        return dict(part)
    if part["state"] != "file":
        return _nothing(args, part)
    # The host is asked what a path means only where it has to be.
    folder, names = _place(args, source if plain else str(part["path"]))
    dest = folder.rstrip("/") + "/" + "/".join(names)
    checksum, size = str(part["checksum"]), int(part["size"])
    result = {"dest": dest, "checksum": checksum, "md5sum": part["md5sum"]}
    if (yield control_step.Kept(folder, names)) == checksum:
        return {"changed": False, "file": source, **result}
    offset, expected = 0, checksum if args["validate_checksum"] else None
    while True:
        content = _decoded(part)
        end = offset + len(content)
        last = end >= size
        yield control_step.Keep(folder, names, content, offset == 0, last, expected)
        if last:
            return {"changed": True, **result, "remote_checksum": checksum, "remote_md5sum": None}
        if not content:
            raise step.Failed("the file became shorter while it was fetched", file=source)
        offset = end
        part = yield _wanted(source, offset, "")
        if part.get("failed"):
            return dict(part)


def _wanted(source: str, offset: int, have: str) -> control_step.OnHost:
    args = {"path": source, "offset": offset, "length": PART_BYTES, "have": have}
    return control_step.OnHost("_part", args)


def _decoded(part: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(part["content"], validate=True)
    except (KeyError, TypeError, ValueError):
        raise step.Failed("the host says what makes no sense") from None


def _nothing(args: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The result where there is no file."""
    message = "the remote file does not exist, not transferring, ignored"
    if part["state"] == "directory":
        message = "remote file is a directory, fetch cannot work on directories"
        if not args["fail_on_missing"]:
            message += ", not transferring, ignored"
    return {
        "changed": False,
        "failed": args["fail_on_missing"],
        "file": args["src"],
        "msg": message,
    }


def _place(args: dict[str, Any], path: str) -> tuple[str, tuple[str, ...]]:
    """The folder here that nothing leaves, and the names below it."""
    dest = args["_dest"]
    names = tuple(posixpath.normpath("/" + path).strip("/").split("/"))
    if not args["flat"]:
        return dest, (args["_host"], *names)
    if dest.endswith("/"):
        return dest, names[-1:]
    if args["_is_folder"]:
        raise step.Failed(
            "dest is an existing directory, use a trailing slash if you want to fetch src into "
            "that directory"
        )
    folder, _, name = dest.rpartition("/")
    return folder or "/", (name,)
