"""Replaces all that a regular expression matches in a file."""

from __future__ import annotations

import re
from typing import Any, Dict

from sappers.provisioner.modules import _files, copy, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

SPEC = Module(
    "Replace all that a regular expression matches in a file.",
    (
        Argument("path", "path", "The file.", required=True, aliases=("dest", "destfile", "name")),
        Argument("regexp", "str", "What to replace; ^ and $ match at each line.", required=True),
        Argument("replace", "str", "With what; groups are expanded.", default=""),
        Argument("after", "str", "Only behind this expression."),
        Argument("before", "str", "Only before this expression."),
        Argument("backup", "bool", "Keep what is replaced beside it.", default=False),
        Argument("validate", "str", "A command that has to accept the file, %s."),
        Argument("encoding", "str", "", default="utf-8"),
        *FILE_ARGUMENTS,
    ),
    unsupported=FILE_UNSUPPORTED,
    returns=(("msg", "how many were replaced"), ("backup_file", "what was kept")),
)


def plan(task: step.Task) -> step.Plan:
    """Replace."""
    args = task.args
    path = args["path"]
    yield from _files.refuse_planted_links(path)
    found = yield step.Stat(path, True)
    if found is None:
        raise step.Failed(f"Path {path} does not exist !", rc=257)
    if found.kind == "directory":
        raise step.Failed(f"Path {path} is a directory !", rc=256)
    content = yield step.Read(path)
    text = content.decode(args["encoding"], "surrogateescape")
    begin, end = _section(args, text)
    if begin < 0:
        return {
            "changed": False,
            "rc": 0,
            "msg": "Pattern for before/after params did not match the given file",
        }
    try:
        part, count = re.subn(args["regexp"], args["replace"], text[begin:end], flags=re.MULTILINE)
    except re.error as error:
        raise step.Failed(f"Unable to process replace due to error: {error}") from None
    after = text[:begin] + part + text[end:]
    if after == text:
        done = yield from _files.ensure_attributes(path, args)
        return {
            "changed": done,
            "rc": 0,
            "msg": _files.ATTRIBUTES_CHANGED if done else "",
        }
    new = after.encode(args["encoding"], "surrogateescape")
    if args["validate"]:
        yield from copy.validate(args["validate"], new)
    result = yield from _files.ensure_content(path, new, args, args["backup"])
    return {**result, "changed": True, "rc": 0, "msg": f"{count} replacements made"}


def _section(args: Dict[str, Any], text: str) -> Any:
    """Begin and end of the part that `after` and `before` leave; -1 where they match nothing."""
    begin, end = 0, len(text)
    if args["after"] is not None:
        match = re.search(args["after"], text, re.DOTALL)
        if match is None:
            return -1, -1
        begin = match.end()
    if args["before"] is not None:
        match = re.compile(args["before"], re.DOTALL).search(text, begin)
        if match is None:
            return -1, -1
        end = match.start()
    return begin, end
