"""Adds and removes sources of Debian packages, as files with fields."""

from __future__ import annotations

import re
from typing import Any, Dict

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules.spec import Argument, Module

_FIELDS = (
    Argument("allow_downgrade_to_insecure", "bool", "Field of the file."),
    Argument("allow_insecure", "bool", "Field of the file."),
    Argument("allow_weak", "bool", "Field of the file."),
    Argument("architectures", "list", "Field of the file."),
    Argument("by_hash", "bool", "Field of the file."),
    Argument("check_date", "bool", "Field of the file."),
    Argument("check_valid_until", "bool", "Field of the file."),
    Argument("components", "list", "Parts of the suites: main, contrib, …."),
    Argument("date_max_future", "int", "Field of the file."),
    Argument("enabled", "bool", "Whether it is used."),
    Argument("exclude", "list", "Packages that are not taken from it."),
    Argument("include", "list", "Packages of which alone it is taken."),
    Argument("inrelease_path", "str", "Field of the file."),
    Argument("languages", "list", "Field of the file."),
    Argument("name", "str", "What it is called; the file is named after it.", required=True),
    Argument("pdiffs", "bool", "Field of the file."),
    Argument("signed_by", "str", "The key: an address, a path, a fingerprint, or itself."),
    Argument("suites", "list", "For example bookworm."),
    Argument("targets", "list", "Field of the file."),
    Argument("trusted", "bool", "Take it without a key."),
    Argument("types", "list", "deb, deb-src.", default=["deb"]),
    Argument("uris", "list", "Where it is."),
)
SPEC = Module(
    "Add a source of Debian packages as a file with fields, or remove it.",
    (
        *_FIELDS,
        Argument("mode", "mode", "Mode of the file.", default="0644"),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("install_python_debian", "bool", "Accepted: nothing is needed.", default=False),
    ),
    outward=True,
    returns=(("repo", "the file's text"), ("dest", "the file"), ("key_filename", "of the key")),
    notes=("The lists are not fetched: `apt` with `update_cache` does it.",),
)
_NAMES = {"name": "X-Repolib-Name", "uris": "URIs"}
_KEYS = "/etc/apt/keyrings"


def plan(task: step.Task) -> step.Plan:
    """Write the key and the file, or take them away."""
    args = task.args
    slug = re.sub("[^a-z0-9-]+", "", re.sub(r"[_\s]+", "-", args["name"].lower()))
    path = f"/etc/apt/sources.list.d/{slug}.sources"
    keys = [f"{_KEYS}/{slug}.asc", f"{_KEYS}/{slug}.gpg"]
    if args["state"] == "absent":
        changed = False
        for one in (path, *keys):
            if (yield step.Stat(one)) is not None:
                yield step.Remove(one)
                changed = True
        return {"changed": changed, "repo": None, "dest": path, "key_filename": keys[-1]}
    signed_by, key_path, changed = args["signed_by"], None, False
    if signed_by is not None:
        key_path, changed = yield from _key(signed_by, keys)
    text = fields_text({**args, "signed_by": key_path or signed_by})
    done = yield from _files.ensure_content(path, text.encode(), {"mode": args["mode"]})
    changed = changed or done["changed"]
    result = {"changed": changed, "repo": text, "dest": path, "key_filename": key_path}
    return {**result, **(yield from _files.describe(path))}


def fields_text(args: Dict[str, Any]) -> str:
    """The file's text: a line a field, in the arguments' order."""
    lines = []
    for field in sorted(argument.name for argument in _FIELDS):
        value = args[field]
        if value is None:
            continue
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = " ".join(value)
        name = _NAMES.get(field) or field.replace("_", "-").title()
        told = str(value)
        if "\n" in told:
            body = (line.strip() or "." for line in told.strip().splitlines())
            told = "".join("\n    " + line for line in body)
        lines.append(f"{name}:{told}" if told.startswith("\n") else f"{name}: {told}")
    return "".join(line + "\n" for line in lines)


def _key(signed_by: str, paths: Any) -> step.Steps:
    """The key's file, None where it is in the text itself; whether it changed."""
    found = None if "\n" in signed_by else (yield step.Stat(signed_by, True))
    if found is not None and found.kind == "file":
        return signed_by, False
    if not re.match("https?://", signed_by):
        return None, False
    answer = yield step.Request(signed_by)
    if answer.status != 200:
        raise step.Failed(f"Could not fetch signed_by key: {answer.reason}")
    content = yield step.Load(answer.content)
    path = paths[0] if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" in content else paths[1]
    changed = yield from _files.make_folders(_KEYS, {"mode": "0755"})
    done = yield from _files.ensure_content(path, answer.content, {"mode": "0644"})
    return path, changed or done["changed"]
