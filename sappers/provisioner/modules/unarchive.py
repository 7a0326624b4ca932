"""Unpacks an archive on the host."""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, List, Optional

from sappers.provisioner.modules import _files, _web, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

SPEC = Module(
    "Unpack an archive on the host: tar, also with gzip, bzip2 or xz, and zip.",
    (
        Argument("src", "str", "The archive here, or with `remote_src` on the host or its address.",
                 required=True),
        Argument("dest", "path", "The folder to unpack into; it has to be there.", required=True),
        Argument("remote_src", "bool", "`src` is on the host, or an address.", default=False),
        Argument("creates", "path", "Do nothing when there is something at this path."),
        Argument("exclude", "list", "Names, as a shell matches them, that are left out.",
                 default=[]),
        Argument("include", "list", "Only these.", default=[]),
        Argument("keep_newer", "bool", "Leave files that are newer.", default=False),
        Argument("list_files", "bool", "The result names all files.", default=False),
        Argument("decrypt", "bool", "Open an archive encrypted with Vault.", default=True),
        Argument("validate_certs", "bool", "Of an address: the certificate has to be right.",
                 default=True),
        Argument("io_buffer_size", "int", "Accepted and without effect.", default=65536),
        *FILE_ARGUMENTS,
    ),
    exclusive=(("include", "exclude"),),
    unsupported=(
        *FILE_UNSUPPORTED,
        ("copy", "write remote_src, which is its opposite"),
        ("extra_opts", "use command: tar"),
    ),
    returns=(("dest, src", "as asked for"), ("files", "names in the archive"),
             ("state, mode, owner, group, size", "of the folder")),
    notes=(
        "Nothing is ever written outside `dest`: names with `..` are refused; so are links there.",
        "A file counts as the same when kind, mode, owner, size and time are.",
    ),
)  # fmt: skip
_DOWNLOAD = {one.name: one.default for one in _web.ARGUMENTS}


def prepare(args: Dict[str, Any], control: Any) -> Dict[str, Any]:
    """The archive, where it is here."""
    if args["remote_src"]:
        return {}
    path = control.find(args["src"], "files")
    return {"_blob": control.blob_of(path, args["decrypt"])}


def plan(task: step.Task) -> step.Plan:
    """Unpack what differs."""
    args = task.args
    dest = args["dest"].rstrip("/") or "/"
    if args["creates"] and (yield step.Glob(args["creates"])):
        message = f"skipped, since {args['creates']} exists"
        return {"changed": False, "skipped": True, "msg": message}
    folder = yield step.Stat(dest, True)
    if folder is None or folder.kind != "directory":
        raise step.Failed(f"dest '{args['dest']}' must be an existing dir")
    source = yield from _source(args)
    yield from _files.refuse_planted_links(dest)
    pairs = yield step.Members(source, dest)
    uid, gid = yield from _files.wanted_ids(args)
    chosen = [(_wanted(args, one, uid, gid), found) for one, found in pairs if _chosen(args, one)]
    inodes = {one.name: found.raw["st_ino"] for one, found in chosen if found is not None}
    differing = [one for one, found in chosen if not _same(args, one, found, inodes)]
    if differing:
        yield step.Unpack(source, dest, tuple(differing))
        yield from _own_top_folders(args, dest, [one for one, _ in chosen])
    result: Dict[str, Any] = {"changed": bool(differing), "dest": args["dest"], "src": args["src"]}
    if args["list_files"]:
        result["files"] = [one.name + "/" * (one.kind == "directory") for one, _ in chosen]
    return {**result, **(yield from _files.describe(dest))}


def _own_top_folders(args: Dict[str, Any], dest: str, members: List[step.Member]) -> step.Steps:
    """Folders that an archive has no entry of, but files in, are owned as those, too."""
    named = {one.name for one in members}
    tops = {one.name.split("/")[0] for one in members if "/" in one.name} - named
    for top in sorted(tops):
        yield from _files.ensure_attributes(dest.rstrip("/") + "/" + top, args, follow=False)


def _source(args: Dict[str, Any]) -> step.Steps:
    """The archive: what was sent, a path on the host, or what is at an address."""
    if args.get("_blob"):
        return step.Blob(**args["_blob"])
    if "://" in args["src"]:
        settings = {**_DOWNLOAD, "timeout": 30, "validate_certs": args["validate_certs"]}
        answer = yield _web.request(settings, args["src"])
        if answer.status != 200:
            raise step.Failed(f"Failure downloading {args['src']}, {answer.reason}")
        return answer.content
    path = (yield step.Expand((args["src"],)))[0]
    found = yield step.Stat(path, True)
    if found is None:
        raise step.Failed(f"Source '{path}' does not exist")
    if found.kind != "file":
        raise step.Failed(f"Source '{path}' is no file")
    return path


def _chosen(args: Dict[str, Any], member: step.Member) -> bool:
    if args["include"]:
        return _matches(member.name, args["include"])
    return not _matches(member.name, args["exclude"])


def _matches(name: str, patterns: List[str]) -> bool:
    """Whether a pattern names it, or a folder that it is in."""
    parts = name.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(fnmatch.fnmatch(one, pattern.rstrip("/")) for one in above for pattern in patterns)


def _wanted(
    args: Dict[str, Any], member: step.Member, uid: Optional[int], gid: Optional[int]
) -> step.Member:
    """A member with the mode and owner that the arguments ask for."""
    mode = member.mode
    if member.kind in ("file", "directory"):
        mode = _files.wanted_mode(args["mode"], mode, member.kind == "directory")
    return member._replace(
        mode=mode, uid=member.uid if uid is None else uid, gid=member.gid if gid is None else gid
    )


def _same(
    args: Dict[str, Any], member: step.Member, found: Optional[step.Found], inodes: Dict[str, Any]
) -> bool:
    if found is None:
        return False
    if member.kind == "hard":
        return found.kind == "file" and inodes.get(member.target) == found.raw["st_ino"]
    if found.kind != member.kind:
        return False
    if member.kind == "file" and args["keep_newer"] and found.raw["st_mtime"] > member.modified:
        return True
    if member.uid not in (-1, found.uid) or member.gid not in (-1, found.gid):
        return False
    if member.kind == "link":
        return found.target == member.target
    if found.mode != member.mode:
        return False
    times = (int(found.raw["st_mtime"]), found.size)
    return member.kind == "directory" or times == (member.modified, member.size)
