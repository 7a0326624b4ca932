"""Finds files by name, age, size and kind."""

from __future__ import annotations

import fnmatch
import re
from typing import Any, Dict, List, Optional

from sappers.provisioner.modules import step
from sappers.provisioner.modules._files import wanted_mode
from sappers.provisioner.modules._stat import told_of
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Find files by name, age, size and kind.",
    (
        Argument("paths", "list", "Folders to look in.", required=True, aliases=("name", "path")),
        Argument("patterns", "list", "Names, as a shell matches them.", default=[],
                 aliases=("pattern",)),
        Argument("excludes", "list", "Names that are left out.", aliases=("exclude",)),
        Argument("use_regex", "bool", "Patterns are regular expressions.", default=False),
        Argument("file_type", "str", "", default="file",
                 choices=("any", "directory", "file", "link")),
        Argument("recurse", "bool", "Also in folders below.", default=False),
        Argument("depth", "int", "So many levels at most."),
        Argument("hidden", "bool", "Also names that begin with a dot.", default=False),
        Argument("age", "str", "Not changed for so long: 3d, 2h; negative: changed since."),
        Argument("age_stamp", "str", "", default="mtime", choices=("atime", "ctime", "mtime")),
        Argument("size", "str", "At least so large: 10m; negative: at most."),
        Argument("contains", "str", "Of files: a regular expression that a line has to match."),
        Argument("read_whole_file", "bool", "That has to be somewhere in it.", default=False),
        Argument("mode", "mode", "Permissions: those, or without `exact_mode` one of them."),
        Argument("exact_mode", "bool", "", default=True),
        Argument("limit", "int", "So many at most."),
        Argument("follow", "bool", "Follow links.", default=False),
        Argument("get_checksum", "bool", "", default=False),
        Argument("checksum_algorithm", "str", "", default="sha1",
                 aliases=("checksum", "checksum_algo"),
                 choices=("md5", "sha1", "sha224", "sha256", "sha384", "sha512")),
    ),
    unsupported=(
        ("encoding", "files are read as UTF-8; leave it out"),
    ),
    returns=(("files", "what was found, as `stat` tells it"), ("matched, examined", "how many")),
)  # fmt: skip
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def plan(task: step.Task) -> step.Plan:
    """Walk, and look at each."""
    args = task.args
    now = (yield step.System())["now"]
    found: List[Dict[str, Any]] = []
    examined = 0
    skipped: Dict[str, str] = {}
    for root in args["paths"]:
        top = yield step.Stat(root, True)
        if top is None or top.kind != "directory":
            skipped[root] = f"'{root}' is not a directory"
            continue
        pending = [(root.rstrip("/") or "/", 1)]
        while pending and len(found) != args["limit"]:
            folder, depth = pending.pop(0)
            for name in (yield step.Names(folder)) or ():
                path = folder.rstrip("/") + "/" + name
                one = yield step.Stat(path)
                examined += 1
                if one is None:
                    continue
                deeper = args["recurse"] and (not args["depth"] or depth < args["depth"])
                if deeper and (yield from _is_folder(path, one, args["follow"])):
                    pending.append((path, depth + 1))
                if name.startswith(".") and not args["hidden"]:
                    continue
                if _matches(args, name, one, now) and (yield from _contains(args, path)):
                    found.append((yield from _described(args, path, one)))
                if len(found) == args["limit"]:
                    break
    message = "All paths examined" if len(found) != args["limit"] else "Limit of matches reached"
    if skipped:
        message = "Not all paths examined, check warnings for details"
    return {
        "changed": False, "files": found, "matched": len(found), "examined": examined,
        "skipped_paths": skipped, "msg": message,
    }  # fmt: skip


def _is_folder(path: str, one: step.Found, follow: bool) -> step.Steps:
    if one.kind == "link" and follow:
        one = (yield step.Stat(path, True)) or one
    return one.kind == "directory"


def _matches(args: Dict[str, Any], name: str, one: step.Found, now: float) -> bool:
    if args["file_type"] not in ("any", one.kind):
        return False
    if args["patterns"] and not _named(args, name, args["patterns"]):
        return False
    if args["excludes"] and _named(args, name, args["excludes"]):
        return False
    if args["mode"] is not None:
        wanted = wanted_mode(args["mode"], 0, False)
        if not (one.mode == wanted if args["exact_mode"] else one.mode & wanted):
            return False
    age = _number(args["age"], _SECONDS, "s")
    if age is not None:
        old = now - one.raw["st_" + args["age_stamp"]]
        if (old < age) if age >= 0 else (old > -age):
            return False
    size = _number(args["size"], _BYTES, "b")
    if size is None or one.kind != "file":
        return True
    return one.size >= size if size >= 0 else one.size <= -size


def _named(args: Dict[str, Any], name: str, patterns: List[str]) -> bool:
    if args["use_regex"]:
        return any(re.match(pattern, name) for pattern in patterns)
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _number(text: Optional[str], units: Dict[str, int], default: str) -> Optional[int]:
    if text is None:
        return None
    match = re.fullmatch(r"(-?\d+)([a-z]?)[a-z]*", text.lower())
    if match is None or (match.group(2) or default) not in units:
        raise step.Failed(f"failed to process {text!r}: a number and one of {', '.join(units)}")
    return int(match.group(1)) * units[match.group(2) or default]


def _contains(args: Dict[str, Any], path: str) -> step.Steps:
    if args["contains"] is None or args["file_type"] != "file":
        return True
    text = ((yield step.Read(path)) or b"").decode("utf-8", "replace")
    expression = re.compile(args["contains"])
    if args["read_whole_file"]:
        return bool(expression.search(text))
    return any(expression.match(line) for line in text.splitlines())


def _described(args: Dict[str, Any], path: str, one: step.Found) -> step.Steps:
    told: Dict[str, Any] = yield from told_of(path, one)
    if one.kind == "file" and args["get_checksum"]:
        algorithm = args["checksum_algorithm"]
        again = yield step.Stat(path, digests=(algorithm,))
        told["checksum"] = again.digests.get(algorithm)
    return told
