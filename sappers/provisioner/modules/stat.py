"""Tells what is at a path."""

from __future__ import annotations

from sappers.provisioner.modules import step
from sappers.provisioner.modules._stat import told_of
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
_ATTRIBUTES = {
    "A": "noatime", "a": "append", "c": "compressed", "C": "nocow", "d": "nodump", "D": "dirsync",
    "e": "extents", "E": "encrypted", "h": "blocksize", "i": "immutable", "I": "indexed",
    "j": "journalled", "N": "inline", "s": "zero", "S": "synchronous", "t": "notail",
    "T": "blockroot", "u": "undelete", "X": "compressedraw", "Z": "compresseddirty",
}  # fmt: skip


def plan(task: step.Task) -> step.Plan:
    """Ask."""
    args = task.args
    algorithm = args["checksum_algorithm"]
    digests = (algorithm,) if args["get_checksum"] else ()
    found = yield step.Stat(args["path"], args["follow"], digests)
    if found is None:
        return {"changed": False, "stat": {"exists": False}}
    told = {"exists": True, **(yield from told_of(args["path"], found))}
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
