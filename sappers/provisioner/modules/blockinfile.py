"""Makes a block of lines between markers be in a file, or not."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

from sappers.provisioner.modules import _files, copy, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

SPEC = Module(
    "Make a block of lines between markers be in a file, or not.",
    (
        Argument("path", "path", "The file.", required=True, aliases=("dest", "destfile", "name")),
        Argument("block", "str", "The lines; none take the block away.", default="",
                 aliases=("content",)),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("marker", "str", "{mark} becomes BEGIN and END.",
                 default="# {mark} ANSIBLE MANAGED BLOCK"),
        Argument("marker_begin", "str", "", default="BEGIN"),
        Argument("marker_end", "str", "", default="END"),
        Argument("insertafter", "str", "A new block goes after the last match, or to EOF."),
        Argument("insertbefore", "str", "A new block goes before the last match, or to BOF."),
        Argument("append_newline", "bool", "An empty line after it.", default=False),
        Argument("prepend_newline", "bool", "An empty line before it.", default=False),
        Argument("create", "bool", "Make the file where there is none.", default=False),
        Argument("backup", "bool", "Keep what is replaced beside it.", default=False),
        Argument("validate", "str", "A command that has to accept the file, %s."),
        *FILE_ARGUMENTS,
    ),
    exclusive=(("insertafter", "insertbefore"),),
    unsupported=FILE_UNSUPPORTED,
    returns=(("msg", "what was done"), ("backup_file", "what was kept")),
)  # fmt: skip


def plan(task: step.Task) -> step.Plan:
    """Change the block."""
    args = task.args
    path = args["path"]
    yield from _files.refuse_planted_links(path)
    found = yield step.Stat(path, True)
    if found is not None and found.kind == "directory":
        raise step.Failed(f"Path {path} is a directory !", rc=256)
    if found is None and not args["create"]:
        if args["state"] == "absent":
            return {"changed": False, "msg": "File not present"}
        raise step.Failed(f"Path {path} does not exist !", rc=257)
    content = b"" if found is None else ((yield step.Read(path)) or b"")
    text = content.decode("utf-8", "surrogateescape")
    after, message = changed_text(args, text)
    if after == text and not (found is None and args["block"]):
        done = yield from _files.ensure_attributes(path, args)
        return {
            "changed": done,
            "msg": _files.ATTRIBUTES_CHANGED if done else "",
        }
    new = after.encode("utf-8", "surrogateescape")
    if args["validate"]:
        yield from copy.validate(args["validate"], new)
    if found is None:
        yield from _files.make_folders(_files.parent_of(path), {})
    result = yield from _files.ensure_content(path, new, args, args["backup"])
    return {**result, "changed": True, "msg": message}


def changed_text(args: Dict[str, Any], text: str) -> Tuple[str, str]:
    """The file's text with the block as it shall be, and what was done."""
    begin = args["marker"].replace("{mark}", args["marker_begin"])
    end = args["marker"].replace("{mark}", args["marker_end"])
    lines = text.splitlines()
    wanted: List[str] = []
    if args["state"] == "present" and args["block"]:
        wanted = [begin, *args["block"].splitlines(), end]
    first, last = _markers(lines, begin, end)
    there = first is not None and last is not None
    if there:
        assert first is not None
        assert last is not None
        low, high = min(first, last), max(first, last)
        at = low
        lines[low : high + 1] = []
    else:
        at = _place(args, lines)
    if wanted and args["prepend_newline"] and at > 0 and lines[at - 1] != "":
        wanted = ["", *wanted]
    if wanted and args["append_newline"] and at < len(lines) and lines[at] != "":
        wanted = [*wanted, ""]
    lines[at:at] = wanted
    ended = text.endswith("\n") or not text or (bool(wanted) and at + len(wanted) == len(lines))
    after = "\n".join(lines) + ("\n" if lines and ended else "")
    if not wanted:
        return after, "Block removed"
    return after, "Block inserted"


def _markers(lines: List[str], begin: str, end: str) -> Tuple[Optional[int], Optional[int]]:
    first = last = None
    for number, line in enumerate(lines):
        if line == begin:
            first = number
        if line == end:
            last = number
    return first, last


def _place(args: Dict[str, Any], lines: List[str]) -> int:
    before, after = args["insertbefore"], args["insertafter"]
    if before == "BOF":
        return 0
    pattern = before if before is not None else after
    if pattern in (None, "EOF"):
        return len(lines)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise step.Failed(f"{pattern!r} is no regular expression: {error}") from None
    hits = [number for number, line in enumerate(lines) if expression.search(line)]
    if not hits:
        return len(lines)
    return hits[-1] if before is not None else hits[-1] + 1
