"""Tells what is at a path."""

from __future__ import annotations

import stat as bits
from typing import Any, Dict

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Tell what is at a path.",
    (
        Argument("path", "path", "Where.", required=True, aliases=("dest", "name")),
        Argument("follow", "bool", "Tell of what a link points to.", default=False),
        Argument("get_checksum", "bool", "Read the file for its checksum.", default=True),
        Argument("checksum_algorithm", "str", "", default="sha1",
                 aliases=("checksum", "checksum_algo"),
                 choices=("md5", "sha1", "sha224", "sha256", "sha384", "sha512")),
        Argument("get_mime", "bool", "Ask `file` of what type it is.", default=True,
                 aliases=("mime", "mime_type", "mime-type")),
        Argument("get_attributes", "bool", "Ask `lsattr` for attributes.", default=True,
                 aliases=("attr", "attributes")),
    ),
    returns=(("stat", "`exists`, and where it does: `isreg`, `isdir`, `size`, `checksum`, …"),),
)  # fmt: skip
_TESTS = {
    "isreg": bits.S_ISREG,
    "isdir": bits.S_ISDIR,
    "islnk": bits.S_ISLNK,
    "isblk": bits.S_ISBLK,
    "ischr": bits.S_ISCHR,
    "isfifo": bits.S_ISFIFO,
    "issock": bits.S_ISSOCK,
}
_FIELDS = (
    ("inode", "st_ino"),
    ("dev", "st_dev"),
    ("nlink", "st_nlink"),
    ("atime", "st_atime"),
    ("mtime", "st_mtime"),
    ("ctime", "st_ctime"),
)
# Of a path that check mode pretends nobody knows them.
_MAYBE = (("blocks", "st_blocks"), ("block_size", "st_blksize"), ("device_type", "st_rdev"))
_ATTRIBUTES = {
    "A": "noatime", "a": "append", "c": "compressed", "C": "nocow", "d": "nodump", "D": "dirsync",
    "e": "extents", "E": "encrypted", "h": "blocksize", "i": "immutable", "I": "indexed",
    "j": "journalled", "N": "inline", "s": "zero", "S": "synchronous", "t": "notail",
    "T": "blockroot", "u": "undelete", "X": "compressedraw", "Z": "compresseddirty",
}  # fmt: skip
_PERMISSIONS = ("rusr", "wusr", "xusr", "rgrp", "wgrp", "xgrp", "roth", "woth", "xoth")


def plan(task: step.Task) -> step.Plan:
    """Ask."""
    args = task.args
    algorithm = args["checksum_algorithm"]
    digests = (algorithm,) if args["get_checksum"] else ()
    found = yield step.Stat(args["path"], args["follow"], digests)
    if found is None:
        return {"changed": False, "stat": {"exists": False}}
    told: Dict[str, Any] = {"exists": True, "path": args["path"], "mode": f"{found.mode:04o}"}
    full = found.raw["st_mode"]
    kind = {"file": bits.S_IFREG, "directory": bits.S_IFDIR, "link": bits.S_IFLNK}
    if bits.S_IFMT(full) == 0:
        full |= kind.get(found.kind, 0)
    told.update({name: test(full) for name, test in _TESTS.items()})
    for index, name in enumerate(_PERMISSIONS):
        told[name] = bool(found.mode & (0o400 >> index))
    told.update(isuid=bool(found.mode & 0o4000), isgid=bool(found.mode & 0o2000))
    told.update(uid=found.uid, gid=found.gid, size=found.size)
    for name, field in _FIELDS:
        told[name] = found.raw[field]
    told.update((name, found.raw[field]) for name, field in _MAYBE if field in found.raw)
    owner = yield step.Account("passwd", str(found.uid))
    group = yield step.Account("group", str(found.gid))
    if owner:
        told["pw_name"] = owner["name"]
    if group:
        told["gr_name"] = group["name"]
    if found.kind == "link":
        told["lnk_target"] = found.target
        told["lnk_source"] = yield step.RealPath(args["path"])
    if algorithm in found.digests:
        told["checksum"] = found.digests[algorithm]
    access = yield step.Access(args["path"])
    told.update(readable="r" in access, writeable="w" in access, executable="x" in access)
    if args["get_mime"]:
        told.update((yield from _type_of(args["path"])))
    if args["get_attributes"]:
        told.update((yield from _attributes(args["path"])))
    return {"changed": False, "stat": told}


def _type_of(path: str) -> step.Steps:
    """What `file` says."""
    done = yield step.Ask(("file", "--mime-type", "--mime-encoding", path))
    kind, _, encoding = done.out.rpartition(":")[2].partition(";")
    if done.code or not encoding:
        return {"mimetype": "unknown", "charset": "unknown"}
    return {"mimetype": kind.strip(), "charset": encoding.split("=")[-1].strip()}


def _attributes(path: str) -> step.Steps:
    """What `lsattr` says; nothing where the file system has none."""
    done = yield step.Ask(("lsattr", "-vd", path))
    words = done.out.split()
    if done.code or len(words) < 2:
        return {"version": None, "attributes": [], "attr_flags": ""}
    flags = words[1].replace("-", "")
    names = [_ATTRIBUTES[flag] for flag in flags if flag in _ATTRIBUTES]
    return {"version": words[0], "attributes": names, "attr_flags": flags}
