"""Downloads a file to the host."""

from __future__ import annotations

import posixpath
from typing import Any, Dict, Optional, Tuple

from sappers.provisioner.modules import _files, _web, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

SPEC = Module(
    "Download a file to the host.",
    (
        Argument("url", "str", "Where it is: http, https, ftp or file.", required=True),
        Argument("dest", "path", "Where to put it; a folder: under its name there.", required=True),
        Argument("checksum", "str", "`sha256:DIGEST`, or `sha256:URL` of a list of digests.",
                 default=""),
        Argument("force", "bool", "Download it although it is there.", default=False),
        Argument("backup", "bool", "Keep what is replaced beside it.", default=False),
        Argument("timeout", "int", "Seconds without an answer until it fails.", default=10),
        Argument("tmp_dest", "path", "A folder with room for it meanwhile."),
        *_web.ARGUMENTS,
        *FILE_ARGUMENTS,
    ),
    outward=True,
    unsupported=(*_web.UNSUPPORTED, *FILE_UNSUPPORTED),
    returns=(
        ("dest, url", "where it is, and was"), ("checksum_src, checksum_dest", "SHA-1 of it"),
        ("md5sum", "MD5 of it"), ("status_code, msg", "what the server said"),
        ("elapsed", "seconds it took"), ("backup_file", "what was kept"),
    ),
    notes=("Check mode downloads it, too, to know whether it differs, and keeps nothing.",),
)  # fmt: skip


def plan(task: step.Task) -> step.Plan:
    """Download what differs, or may."""
    args = task.args
    result: Dict[str, Any] = {"url": args["url"], "dest": args["dest"], "changed": False}
    algorithm, wanted = yield from _checksum(args)
    found = yield step.Stat(args["dest"], True, (algorithm,) if algorithm else ())
    headers: Tuple[Tuple[str, str], ...] = ()
    if found is not None and found.kind != "directory" and not args["force"]:
        if wanted is None:
            headers = (("If-Modified-Since", _web.http_date(found.raw["st_mtime"])),)
        elif found.digests.get(algorithm) == wanted:
            changed = yield from _files.ensure_attributes(args["dest"], args)
            message = "file already exists" + " but file attributes changed" * changed
            told = yield from _files.describe(args["dest"])
            told.update(checksum_src=None, checksum_dest=None, elapsed=0)
            return {**result, "changed": changed, "msg": message, **told}
    began = yield step.Pause(0.0)
    answer = yield _web.request(args, args["url"], headers=headers, folder=args["tmp_dest"])
    result.update(elapsed=int((yield step.Pause(0.0)) - began), status_code=answer.status)
    if answer.status == 304:
        return {**result, "msg": answer.reason, **(yield from _files.describe(args["dest"]))}
    if answer.status == -1:
        raise step.Failed(answer.reason, **result)
    if answer.status != 200:
        raise step.Failed("Request failed", response=answer.reason, **result)
    if algorithm and (yield from _digest(answer.content, algorithm)) != wanted:
        told = yield from _digest(answer.content, algorithm)
        message = f"The checksum for {args['url']} did not match {wanted}; it was {told}."
        raise step.Failed(message, checksum_src=answer.content.sha1, **result)
    return (yield from _put(args, answer, found, result))


def _put(
    args: Dict[str, Any], answer: step.Response, found: Optional[step.Found], result: Dict[str, Any]
) -> step.Plan:
    dest = args["dest"]
    if found is not None and found.kind == "directory":
        dest = dest.rstrip("/") + "/" + _web.file_name(answer, "index.html")
    elif (yield step.Stat(_files.parent_of(dest), True)) is None:
        raise step.Failed(f"Destination {posixpath.dirname(dest)} does not exist", **result)
    content = answer.content
    assert content is not None
    before = yield step.Stat(dest, True, ("sha1",))
    result.update(dest=dest, checksum_src=content.sha1, md5sum=answer.md5, msg=answer.reason)
    result["checksum_dest"] = before.digests.get("sha1") if before is not None else None
    done = yield from _files.ensure_content(dest, content, args, args["backup"], False)
    return {**result, **done, **(yield from _files.describe(dest))}


def _checksum(args: Dict[str, Any]) -> step.Steps:
    """Algorithm and digest that are asked for; where a list of them is named, out of that."""
    if not args["checksum"]:
        return "", None
    algorithm, colon, wanted = args["checksum"].partition(":")
    algorithm, wanted = algorithm.strip().lower(), wanted.strip()
    if not colon or algorithm not in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512"):
        raise step.Failed("The checksum parameter has to be in format <algorithm>:<checksum>")
    if "://" in wanted:
        answer = yield _web.request(args, wanted)
        if answer.status != 200:
            raise step.Failed(f"Unable to find a checksum at {wanted}: {answer.reason}")
        name = args["url"].rstrip("/").rpartition("/")[2]
        lines = (yield step.Load(answer.content)).decode("utf-8", "replace").splitlines()
        pairs = [line.split(None, 1) for line in lines if line.strip()]
        of_name = [p[0] for p in pairs if len(p) == 2 and p[1].lstrip("*./").strip() == name]
        alone = [pair[0] for pair in pairs if len(pair) == 1]
        if not of_name and len(alone) != 1:
            raise step.Failed(f"Unable to find a checksum for file '{name}' in '{wanted}'")
        wanted = of_name[0] if of_name else alone[0]
    return algorithm, wanted.lower()


def _digest(content: step.Blob, algorithm: str) -> step.Steps:
    if algorithm in ("sha1", "sha256"):
        return getattr(content, algorithm)
    return (yield step.Digest(content, algorithm))
