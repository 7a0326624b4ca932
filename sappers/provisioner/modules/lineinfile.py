"""Makes a line be in a file, or not."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from sappers.provisioner.modules import _files, copy, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

SPEC = Module(
    "Make a line be in a file, or not.",
    (
        Argument("path", "path", "The file.", required=True, aliases=("dest", "destfile", "name")),
        Argument("line", "str", "The line.", aliases=("value",)),
        Argument("regexp", "str", "The last line that matches is replaced.", aliases=("regex",)),
        Argument("search_string", "str", "As `regexp`, but the text itself."),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("backrefs", "bool", "Expand groups of `regexp` in `line`.", default=False),
        Argument("insertafter", "str", "A new line goes after the last match, or to EOF."),
        Argument("insertbefore", "str", "A new line goes before the last match, or to BOF."),
        Argument("firstmatch", "bool", "The first match instead of the last.", default=False),
        Argument("create", "bool", "Make the file where there is none.", default=False),
        Argument("backup", "bool", "Keep what is replaced beside it.", default=False),
        Argument("validate", "str", "A command that has to accept the file, %s."),
        *FILE_ARGUMENTS,
    ),
    exclusive=(("regexp", "search_string"), ("insertafter", "insertbefore")),
    unsupported=FILE_UNSUPPORTED,
    returns=(("backup", "what was kept"), ("msg", "what was done")),
)


def plan(task: step.Task) -> step.Plan:
    """Change the line."""
    args = task.args
    _check(args)
    yield from _files.refuse_planted_links(args["path"])
    found = yield step.Stat(args["path"], True)
    if found is not None and found.kind == "directory":
        raise step.Failed("Path {} is a directory !".format(args["path"]), rc=256)
    if found is None and args["state"] == "absent":
        return {"changed": False, "msg": "file not present"}
    if found is None and not args["create"]:
        raise step.Failed("Destination {} does not exist !".format(args["path"]), rc=257)
    content = b"" if found is None else (yield step.Read(args["path"]))
    lines = content.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    change = _absent if args["state"] == "absent" else _present
    after, message, extra = change(args, list(lines))
    result = {"changed": False, "msg": "", "backup": "", **extra}
    if after != lines or (found is None and args["create"]):
        new = "".join(after).encode("utf-8", "surrogateescape")
        if args["validate"]:
            yield from copy.validate(args["validate"], new)
        if found is None:
            yield from _files.make_folders(_files.parent_of(args["path"]), {})
        done = yield from _files.ensure_content(args["path"], new, args, args["backup"])
        result.update(changed=True, msg=message, backup=done.get("backup_file", ""))
        return result
    attributes = yield from _files.ensure_attributes(args["path"], args)
    if attributes:
        result.update(changed=True, msg=_files.ATTRIBUTES_CHANGED)
    return result


def _check(args: Dict[str, Any]) -> None:
    if args["state"] == "present":
        if args["backrefs"] and args["regexp"] is None:
            raise step.Failed("regexp is required with backrefs=true")
        if args["line"] is None:
            raise step.Failed("line is required with state=present")
    elif args["regexp"] is None and args["search_string"] is None and args["line"] is None:
        raise step.Failed("one of line, search_string, or regexp is required with state=absent")


def _compiled(text: Optional[str]) -> Any:
    try:
        return re.compile(text) if text is not None else None
    except re.error as error:
        raise step.Failed(f"{text!r} is no regular expression: {error}") from None


def _bare(line: str) -> str:
    return line.rstrip("\r\n")


def _absent(args: Dict[str, Any], lines: List[str]) -> Any:
    regexp = _compiled(args["regexp"])

    def goes(line: str) -> bool:
        if regexp is not None:
            return bool(regexp.search(line))
        if args["search_string"] is not None:
            return str(args["search_string"]) in line
        return _bare(line) == str(args["line"])

    kept = [line for line in lines if not goes(line)]
    gone = len(lines) - len(kept)
    return kept, f"{gone} line(s) removed", {"found": gone}


def _present(args: Dict[str, Any], lines: List[str]) -> Any:
    regexp = _compiled(args["regexp"])
    match, index, exact = None, -1, -1
    for number, line in enumerate(lines):
        if regexp is not None:
            hit: Any = regexp.search(line)
        elif args["search_string"] is not None:
            hit = args["search_string"] in line
        else:
            hit = None
        if hit and not (args["firstmatch"] and index >= 0):
            match, index = hit, number
        if _bare(line) == args["line"]:
            exact = number
    if index >= 0:
        return _replaced(args, lines, index, match)
    if args["backrefs"]:
        return lines, "", {}
    if exact >= 0:
        return lines, "", {}
    return _inserted(args, lines), "line added", {}


def _replaced(args: Dict[str, Any], lines: List[str], index: int, match: Any) -> Any:
    wanted = args["line"]
    if args["backrefs"] and hasattr(match, "expand"):
        wanted = match.expand(wanted)
    if not wanted.endswith("\n"):
        wanted += "\n"
    if _bare(lines[index]) == _bare(wanted):
        return lines, "", {}
    return [*lines[:index], wanted, *lines[index + 1 :]], "line replaced", {}


def _inserted(args: Dict[str, Any], lines: List[str]) -> List[str]:
    line = args["line"] + "\n"
    before, after = args["insertbefore"], args["insertafter"]
    if before == "BOF":
        return [line, *lines]
    wanted = before if before is not None else after
    if wanted not in (None, "EOF", "BOF"):
        place = _compiled(wanted)
        hits = [number for number, one in enumerate(lines) if place.search(one)]
        if hits:
            hit = hits[0] if args["firstmatch"] else hits[-1]
            at = hit if before is not None else hit + 1
            ended = _with_end(lines)
            return [*ended[:at], line, *ended[at:]]
    return [*_with_end(lines), line]


def _with_end(lines: List[str]) -> List[str]:
    """The lines, of which the last ends, too."""
    if lines and not lines[-1].endswith("\n"):
        return [*lines[:-1], lines[-1] + "\n"]
    return lines
