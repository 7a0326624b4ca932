"""Puts a file, a folder or a text onto the host."""

from __future__ import annotations

import shlex
from typing import Any, Dict

from sappers.provisioner.modules import _files, _trees, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

WRITE_ARGUMENTS = (
    Argument("backup", "bool", "Keep what is replaced beside it.", default=False),
    Argument("force", "bool", "Replace a file that differs.", default=True),
    Argument("validate", "str", "A command that has to accept the file, %s, before it counts."),
)
SPEC = Module(
    "Put a file, a folder or a text onto the host.",
    (
        Argument("src", "str", "A file or folder here, or with `remote_src` on the host."),
        Argument("content", "raw", "The file's content itself."),
        Argument(
            "dest", "path", "Where to put it; with a / at the end, into that folder.", required=True
        ),
        Argument("remote_src", "bool", "`src` is on the host.", default=False),
        Argument("directory_mode", "mode", "Mode of folders that are made."),
        Argument("follow", "bool", "Write to what a link in its place points to.", default=False),
        Argument(
            "local_follow",
            "bool",
            "Copy what links in a folder point to; if not given: with `remote_src` the links.",
        ),
        Argument("checksum", "str", "SHA-1 that the source has to have."),
        Argument("decrypt", "bool", "Open files encrypted with Vault.", default=True),
        *WRITE_ARGUMENTS,
        *FILE_ARGUMENTS,
    ),
    one_of=(("src", "content"),),
    exclusive=(("src", "content"),),
    unsupported=FILE_UNSUPPORTED,
    returns=(
        ("dest", "where it is"),
        ("checksum", "SHA-1 of it"),
        ("md5sum", "MD5, where it was written"),
        ("backup_file", "what was kept"),
    ),
)


def prepare(args: Dict[str, Any], control: Any) -> Dict[str, Any]:
    """What has to be read on the control machine: the file, or all files of a folder."""
    if args["content"] is not None:
        content = args["content"]
        if not isinstance(content, str):
            is_data = isinstance(content, (dict, list))
            content = control.to_json(content) if is_data else str(content)
        # Ansible keeps the mode of the file that it makes of the content.
        mode = "0600" if args["mode"] == "preserve" else args["mode"]
        return {"_blob": control.blob(content.encode()), "mode": mode}
    if args["remote_src"]:
        return {}
    path = control.find(args["src"], "files")
    if control.is_folder(path):
        prefix = "" if args["src"].endswith("/") else path.rstrip("/").rpartition("/")[2] + "/"
        return {"_tree": control.tree(path, prefix, follow=args["local_follow"] is not False)}
    mode = f"{control.mode(path):04o}" if args["mode"] == "preserve" else args["mode"]
    return {"_blob": control.blob_of(path, args["decrypt"]), "mode": mode}


def plan(task: step.Task) -> step.Plan:
    """Write what differs."""
    args = task.args
    if args.get("_tree") is not None:
        return (yield from _trees.put(args))
    blob = args.get("_blob")
    if blob is None:
        return (yield from _copy_on_host(args))
    return (yield from _put(args, args["dest"], step.Blob(**blob)))


def _sha1(content: bytes) -> str:
    import hashlib  # takes long to load, and most contents come with their digests

    return hashlib.sha1(content).hexdigest()


def _put(args: Dict[str, Any], dest: str, content: Any) -> step.Plan:
    dest = yield from _destination(args, dest)
    sha1 = content.sha1 if isinstance(content, step.Blob) else _sha1(content)
    if args["checksum"] and args["checksum"] != sha1:
        raise step.Failed("the source's checksum is {}, not {}".format(sha1, args["checksum"]))
    found = yield step.Stat(dest, True)
    result = {"dest": dest, "checksum": sha1, "changed": False}
    if args["src"] is not None:
        result["src"] = args["src"]
    if found is not None and not args["force"]:
        return {**result, **(yield from _files.describe(dest))}
    if args["validate"]:
        yield from validate(args["validate"], content)
    follow = args["follow"]
    done = yield from _files.ensure_content(dest, content, args, args["backup"], follow, True)
    if "md5sum" not in done:  # what `file` would say, as only mode and owner may have changed
        result["path"] = dest
    return {**result, **done, **(yield from _files.describe(dest))}


def validate(command: str, content: Any) -> step.Plan:
    """Have a program accept a content.

    Raises:
        Failed: It does not, or no %s is in the command.
    """
    if "%s" not in command:
        raise step.Failed(f"validate must contain %s: {command}")
    done = yield step.Try(content, tuple(shlex.split(command)))
    if done.code:
        told = {"stdout": done.out, "stderr": done.err}
        raise step.Failed("failed to validate", rc=done.code, exit_status=done.code, **told)
    return {}


def _destination(args: Dict[str, Any], dest: str) -> step.Steps:
    """The file to write: below `dest` where that is a folder."""
    name = (args.get("_name") or args["src"] or "").rstrip("/").rpartition("/")[2]
    found = yield step.Stat(dest, True)
    if dest.endswith("/"):
        if not name:
            raise step.Failed(f"{dest} is a folder; with `content`, name a file")
        folder = dest.rstrip("/") or "/"
        yield from _files.make_folders(folder, {"mode": args["directory_mode"]})
        return folder.rstrip("/") + "/" + name
    if found is not None and found.kind == "directory":
        if not name:
            raise step.Failed(f"can not use content with a dir as dest: {dest}")
        return dest + "/" + name
    parent = _files.parent_of(dest)
    above = yield step.Stat(parent, True)
    if above is None:
        raise step.Failed(f"Destination directory {parent} does not exist")
    return dest


def _copy_on_host(args: Dict[str, Any]) -> step.Plan:
    found = yield step.Stat(args["src"].rstrip("/") or "/", True, ("md5",))
    if found is None:
        raise step.Failed("Source {} not found".format(args["src"]))
    if found.kind == "directory":
        return (yield from _trees.copy_on_host(args))
    content = yield step.Read(args["src"])
    mode = f"{found.mode:04o}" if args["mode"] == "preserve" else args["mode"]
    done = yield from _put({**args, "mode": mode}, args["dest"], content)
    return {"md5sum": found.digests.get("md5"), **done}
