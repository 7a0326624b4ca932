"""Copies folders with all they hold: those that came with the task, and those on the host."""

from __future__ import annotations

from typing import Any, Dict

from sappers.provisioner.modules import _files, step

_DEPTH_MAX = 100  # a link in a folder may lead back to it


def put(args: Dict[str, Any]) -> step.Plan:
    """Write what `_tree` has and differs."""
    root = args["dest"].rstrip("/") or "/"
    folder_args = {"mode": args["directory_mode"], "owner": args["owner"], "group": args["group"]}
    changed = yield from _files.make_folders(root, folder_args)
    for entry in args["_tree"]:
        path = root.rstrip("/") + "/" + entry["path"]
        if entry["target"] is not None:
            made = yield from _link(path, entry["target"])
        elif entry["blob"] is None:
            yield from _refuse_link(path, args["follow"])
            made = yield from _files.make_folders(path, folder_args)
            same = yield from _files.ensure_attributes(path, folder_args, args["follow"])
            made = made or same
        else:
            made = yield from _file(path, step.Blob(**entry["blob"]), entry["mode"], args)
        changed = changed or made
    result = {"changed": bool(changed), "dest": args["dest"], "src": args["src"]}
    result.update((yield from _files.describe(root)))
    return result


def _file(path: str, content: step.Blob, mode: str, args: Dict[str, Any]) -> step.Steps:
    folder_args = {"mode": args["directory_mode"], "owner": args["owner"], "group": args["group"]}
    made = yield from _files.make_folders(_files.parent_of(path), folder_args)
    found = yield step.Stat(path, True)
    if found is not None and not args["force"]:
        return made
    wanted = {**args, "mode": mode if args["mode"] == "preserve" else args["mode"]}
    done = yield from _files.ensure_content(path, content, wanted, args["backup"], args["follow"])
    return made or done["changed"]


def copy_on_host(args: Dict[str, Any]) -> step.Plan:
    """Copy a folder of the host, or with a / at its end what it holds, as Ansible does.

    What is new or differs gets the mode that it has there; `mode` is that of `dest` itself.
    """
    source, dest = args["src"].rstrip("/") or "/", args["dest"].rstrip("/") or "/"
    within = args["src"].endswith("/")
    top = dest if within else dest.rstrip("/") + "/" + source.rpartition("/")[2]
    there = yield step.Stat(dest, True)
    if there is None:
        parent = _files.parent_of(dest)
        if not args["dest"].endswith("/") and (yield step.Stat(parent, True)) is None:
            raise step.Failed(f"Destination directory {parent} does not exist")
    result = {"changed": False, "src": args["src"], "dest": dest if there is None else top}
    result.update(checksum=None, md5sum=None)  # as of what is no file
    if (yield step.Stat(result["dest"], True)) is not None and not args["force"]:
        told = yield from _files.describe(result["dest"])
        return {**result, "msg": "file already exists", **told}
    owned = {"owner": args["owner"], "group": args["group"]}
    above = _files.parent_of(top)
    made = yield from _files.make_folders(above, {**owned, "mode": args["directory_mode"]})
    copied = yield from _copy_folder(source, top, args, 0)
    mode = args["mode"]
    if mode == "preserve":
        mode = f"{(yield step.Stat(source, True)).mode:04o}"
    given = yield from _files.ensure_attributes(result["dest"], {**args, "mode": mode})
    result["changed"] = bool(made or copied or given)
    return {**result, **(yield from _files.describe(result["dest"]))}


def _copy_folder(source: str, path: str, args: Dict[str, Any], depth: int) -> step.Steps:
    if depth > _DEPTH_MAX:
        raise step.Failed(f"{source} is too deep, or a link in it leads back to it")
    found = yield step.Stat(source, True)
    yield from _refuse_link(path, args["follow"])
    owned = {"owner": args["owner"], "group": args["group"]}
    own = {**owned, "mode": f"{found.mode:04o}"}
    changed = yield from _files.make_folders(path, own)
    if not changed:
        changed = yield from _files.ensure_attributes(path, owned, args["follow"])
    for name in (yield step.Names(source)) or ():
        each = yield from _copy_one(f"{source.rstrip('/')}/{name}", f"{path}/{name}", args, depth)
        changed = changed or each
    return changed


def _copy_one(source: str, path: str, args: Dict[str, Any], depth: int) -> step.Steps:
    found = yield step.Stat(source, bool(args["local_follow"]), ("sha256",))
    if found is None:  # a link that leads nowhere
        found = yield step.Stat(source)
    if found.kind == "link":
        return (yield from _link(path, found.target))
    if found.kind == "directory":
        return (yield from _copy_folder(source, path, args, depth + 1))
    if found.kind != "file":
        raise step.Failed(f"{source} is neither a file nor a folder nor a link")
    owned = {"owner": args["owner"], "group": args["group"], "mode": None}
    there = yield step.Stat(path, args["follow"], ("sha256",))
    if there is not None and there.digests.get("sha256") == found.digests.get("sha256"):
        return (yield from _files.ensure_attributes(path, owned, args["follow"]))
    content = yield step.Read(source)
    wanted = {**owned, "mode": f"{found.mode:04o}"}
    done = yield from _files.ensure_content(path, content, wanted, follow=args["follow"])
    return done["changed"]


def _link(path: str, target: str) -> step.Steps:
    """A link is there that points to this; whether it had to be made."""
    yield from _files.refuse_planted_links(_files.parent_of(path))
    found = yield step.Stat(path)
    if found is not None and found.kind == "link" and found.target == target:
        return False
    if found is not None and found.kind == "directory":
        raise step.Failed(f"{path} is a folder; a link to {target} was to take its place")
    yield step.MakeLink(path, target)
    return True


def _refuse_link(path: str, follow: bool) -> step.Steps:
    """Refuse a link where a folder is to be, unless it may be followed."""
    there = yield step.Stat(path)
    if there is not None and there.kind == "link" and not follow:
        raise step.Failed(f"{path} is a link; with `follow: true` files go where it points")
