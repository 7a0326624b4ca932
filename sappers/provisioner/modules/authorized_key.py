"""Lets an SSH key in for a user, or not."""

from __future__ import annotations

from typing import Any, Dict, List

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Let an SSH key in for a user, or not.",
    (
        Argument("user", "str", "The user.", required=True),
        Argument("key", "str", "Public keys, one a line.", required=True),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("exclusive", "bool", "No other key may stay.", default=False),
        Argument("key_options", "str", "Options before the key."),
        Argument("comment", "str", "The comment behind the key."),
        Argument("path", "path", "The file, instead of ~/.ssh/authorized_keys."),
        Argument("manage_dir", "bool", "Make and own the folder.", default=True),
        Argument("follow", "bool", "Links may lead to the file, and stay.", default=False),
    ),
    unsupported=(("validate_certs", "keys are given as text; use lookup('url') or get_url"),),
    returns=(("keyfile", "the file"), ("user, key, state", "as asked for")),
)
_KINDS = (
    "ssh-ed25519",
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def plan(task: step.Task) -> step.Plan:
    """Change the file."""
    args = task.args
    entry = yield step.Account("passwd", args["user"])
    if entry is None and not (task.check and args["path"]):
        raise step.Failed(f"Failed to lookup user {args['user']}")
    folder = entry["home"].rstrip("/") + "/.ssh"
    path = args["path"] or folder + "/authorized_keys"
    given = [_line(args, line) for line in args["key"].splitlines() if _is_key(line)]
    if not given:
        raise step.Failed(f"invalid key specified: {args['key']}")
    follow = args["follow"]
    if not follow:
        yield from _refuse_links(path)
    read = yield step.Read(path, no_links=not follow)
    there = (read or b"").decode("utf-8", "surrogateescape").splitlines()
    after = _changed(args, there, given)
    owner = {"owner": str(entry["uid"]), "group": str(entry["gid"])}
    changed = False
    if after != there:
        if args["manage_dir"]:
            yield from _files.make_folders(_files.parent_of(path), {**owner, "mode": "0700"})
        text = "".join(line + "\n" for line in after).encode("utf-8", "surrogateescape")
        real = (yield step.RealPath(path)) if follow else path
        yield step.WriteFile(real, text, 0o600, entry["uid"], entry["gid"], not follow)
        changed = True
    result = {"validate_certs": True, **args, "changed": changed, "keyfile": path}
    if args["path"] is not None:
        result.update((yield from _files.describe(path)))
    return result


def _refuse_links(path: str) -> step.Steps:
    """A user could make them, and have us write elsewhere with rights that the user has not."""
    for one in (_files.parent_of(path), path):
        found = yield step.Stat(one)
        if found is not None and found.kind == "link":
            raise step.Failed(f"{one} is a link; with `follow: true` what it points to is changed")


def _is_key(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#") and bool(_blob(line))


def _blob(line: str) -> str:
    """Kind and key of a line, without options and comment; empty when it is none."""
    words = line.split()
    for index, word in enumerate(words[:-1]):
        if word in _KINDS:
            return word + " " + words[index + 1]
    return ""


def _line(args: Dict[str, Any], line: str) -> str:
    words = line.split()
    at = next(index for index, word in enumerate(words) if word in _KINDS)
    options = args["key_options"] if args["key_options"] is not None else " ".join(words[:at])
    comment = args["comment"] if args["comment"] is not None else " ".join(words[at + 2 :])
    return " ".join(part for part in (options, words[at], words[at + 1], comment) if part)


def _changed(args: Dict[str, Any], there: List[str], given: List[str]) -> List[str]:
    wanted = {_blob(line): line for line in given}
    if args["state"] == "absent":
        return [line for line in there if _blob(line) not in wanted]
    after = []
    for line in there:
        blob = _blob(line)
        if blob in wanted:
            after.append(wanted.pop(blob))
        elif not (args["exclusive"] and blob):
            after.append(line)
    return [*after, *wanted.values()]
