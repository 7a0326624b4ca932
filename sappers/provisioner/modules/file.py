"""Makes files, folders and links be, or not be, with mode and owner."""

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

SPEC = Module(
    "Make a file, folder or link be there, or not, with mode and owner.",
    (
        Argument("path", "path", "Where.", required=True, aliases=("dest", "name")),
        Argument("state", "str", "What shall be there; by default what is, or a file.",
                 choices=("absent", "directory", "file", "hard", "link", "touch")),
        Argument("src", "path", "What a link points to."),
        Argument("recurse", "bool", "Mode and owner for all in the folder.", default=False),
        Argument("force", "bool", "Links: replace what is there; point to nothing.", default=False),
        Argument("follow", "bool", "Mode and owner of what a link points to.", default=True),
        Argument("modification_time", "str", "now, preserve, or a time."),
        Argument("modification_time_format", "str", "", default="%Y%m%d%H%M.%S"),
        Argument("access_time", "str", "now, preserve, or a time."),
        Argument("access_time_format", "str", "", default="%Y%m%d%H%M.%S"),
        *FILE_ARGUMENTS,
    ),
    unsupported=FILE_UNSUPPORTED,
    returns=(("path, dest", "where"), ("state, mode, owner, group, size", "what is there")),
)  # fmt: skip


def plan(task: step.Task) -> step.Plan:
    """Do what the state asks for."""
    args = task.args
    path = args["path"].rstrip("/") or "/"
    found = yield step.Stat(path)
    state = args["state"] or ("file" if found is None else found.kind)
    if args["src"] and state not in ("link", "hard"):
        raise step.Failed("src option requires state to be 'link' or 'hard'", path=path)
    if args["recurse"] and state != "directory":
        raise step.Failed("recurse option requires state to be 'directory'")
    done = yield from _STATES[state](args, path, found)
    if state == "absent":
        return {"changed": bool(done), "path": path, "state": "absent"}
    follow = state != "link" and args["follow"]
    told = yield from _files.describe(path, follow)
    named = args["state"] or told["state"]  # `hard` where a file has other names
    result = {**told, "dest" if named in ("link", "hard", "touch") else "path": path}
    if named in ("link", "hard"):
        result["src"] = args["src"]
    return {"changed": bool(done), **result}


def _absent(_: Dict[str, Any], path: str, found: Optional[step.Found]) -> step.Steps:
    if found is not None:
        yield step.Remove(path)
    return found is not None


def _directory(args: Dict[str, Any], path: str, found: Optional[step.Found]) -> step.Steps:
    if found is not None and found.kind == "link" and args["follow"]:
        path = yield step.RealPath(path)
        found = yield step.Stat(path)
    if found is not None and found.kind != "directory":
        raise step.Failed(f"{path} already exists as a {found.kind}", path=path)
    made = yield from _files.make_folders(path, args)
    changed = yield from _files.ensure_attributes(path, args)
    if args["recurse"]:
        below = yield from _recurse(args, path)
        changed = changed or below
    return made or changed


def _recurse(args: Dict[str, Any], folder: str) -> step.Steps:
    changed = False
    for name in (yield step.Names(folder)) or ():
        path = folder.rstrip("/") + "/" + name
        found = yield step.Stat(path)
        done = yield from _files.ensure_attributes(path, args, False)
        changed = changed or done
        if found is not None and found.kind == "directory":
            below = yield from _recurse(args, path)
            changed = changed or below
    return changed


def _file(args: Dict[str, Any], path: str, found: Optional[step.Found]) -> step.Steps:
    if found is not None and found.kind == "link" and args["follow"]:
        path = yield step.RealPath(path)
        found = yield step.Stat(path)
    if found is None:
        raise step.Failed(f"file ({path}) is absent, cannot continue", path=path, state="absent")
    if found.kind not in ("file", "link") and args["state"] == "file":
        raise step.Failed(f"file ({path}) is {found.kind}, cannot continue", path=path)
    return (yield from _attributes_and_times(args, path, "preserve"))


def _attributes_and_times(args: Dict[str, Any], path: str, default: str) -> step.Steps:
    changed = yield from _files.ensure_attributes(path, args, args["follow"])
    found = yield step.Stat(path, args["follow"])
    if found is None:
        return changed
    times = [
        _time(args[key] or default, args[key + "_format"])
        for key in ("access_time", "modification_time")
    ]
    there = (found.raw["st_atime"], found.raw["st_mtime"])
    wanted = [there[n] if one is False else one for n, one in enumerate(times)]
    if any(one is None or one != there[n] for n, one in enumerate(wanted)):
        yield step.Touch(path, wanted[0], wanted[1])
        return True
    return changed


def _time(text: str, form: str) -> Any:
    """Seconds; None: now, False: as it is."""
    if text in ("now", "preserve"):
        return None if text == "now" else False
    try:
        return time.mktime(time.strptime(text, form))
    except ValueError as error:
        raise step.Failed(f"Error while obtaining timestamp for time {text}: {error}") from None


def _touch(args: Dict[str, Any], path: str, found: Optional[step.Found]) -> step.Steps:
    if found is None:
        mode = _files.wanted_mode(args["mode"], _files.NEW_FILE, False)
        yield step.Touch(path, None, None, mode)
        yield from _files.ensure_attributes(path, args)
        return True
    return (yield from _attributes_and_times(args, path, "now"))


def _link(args: Dict[str, Any], path: str, found: Optional[step.Found]) -> step.Steps:
    target = args["src"]
    if target is None:
        if found is None or found.kind != "link":
            raise step.Failed("src is required for creating new symlinks", path=path)
        target = found.target
    if found is not None and found.kind == "directory" and not args["force"]:
        raise step.Failed(f"refusing to convert from directory to symlink for {path}", path=path)
    if found is not None and found.kind == "file" and not args["force"]:
        raise step.Failed(f"refusing to convert from file to symlink for {path}", path=path)
    absolute = target if target.startswith("/") else _files.parent_of(path) + "/" + target
    pointed = yield step.Stat(absolute, True)
    if pointed is None and not args["force"]:
        raise step.Failed(
            "src file does not exist, "
            f'use "force=yes" if you really want to create the link: {absolute}',
            path=path,
            src=target,
        )
    if found is not None and found.kind == "link" and found.target == target:
        changed = False
    else:
        if found is not None and found.kind == "directory":
            if (yield step.Names(path)):
                raise step.Failed(f"the directory {path} is not empty, refusing to convert it")
            yield step.Remove(path)
        yield step.MakeLink(path, target)
        changed = True
    owned = yield from _files.ensure_attributes(path, {**args, "mode": None}, False)
    if args["follow"] and pointed is not None and args["mode"] is not None:
        below = yield from _files.ensure_attributes(absolute, args)
        owned = owned or below
    return changed or owned


def _hard(args: Dict[str, Any], path: str, found: Optional[step.Found]) -> step.Steps:
    if args["src"] is None:
        raise step.Failed("src is required for creating new hardlinks", path=path)
    source = yield step.Stat(args["src"])
    if source is None:
        raise step.Failed("src does not exist: {}".format(args["src"]), path=path)
    changed = False
    same = found is not None and (found.raw["st_ino"], found.raw["st_dev"]) == (
        source.raw["st_ino"],
        source.raw["st_dev"],
    )
    if not same:
        if found is not None and not args["force"]:
            raise step.Failed("Cannot link, different hard link exists at destination", path=path)
        yield step.MakeLink(path, args["src"], True)
        changed = True
    owned = yield from _files.ensure_attributes(path, args)
    return changed or owned


_STATES = {
    "absent": _absent,
    "directory": _directory,
    "file": _file,
    "other": _file,
    "hard": _hard,
    "link": _link,
    "touch": _touch,
}
