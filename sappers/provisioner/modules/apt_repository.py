"""Adds and removes sources of Debian packages."""

from __future__ import annotations

import re
from typing import Any, Dict, List

from sappers.provisioner.modules import _files, apt, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Add a source of Debian packages, or remove it.",
    (
        Argument("repo", "str", "The line: deb [options] ADDRESS SUITE COMPONENT….", required=True),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("filename", "str", "The file in sources.list.d, without `.list`."),
        Argument("mode", "mode", "Mode of a file that is made.", default="0644"),
        Argument("update_cache", "bool", "Fetch the lists when it changed.", default=True,
                 aliases=("update-cache",)),
        Argument("update_cache_retries", "int", "Accepted: apt tries again by itself.", default=5),
        Argument("update_cache_retry_max_delay", "int", "Accepted.", default=12),
        Argument("install_python_apt", "bool", "Accepted: nothing is needed.", default=True),
        Argument("validate_certs", "bool", "Accepted: apt.conf says it.", default=True),
    ),
    outward=True,
    unsupported=(("codename", "write the suite in `repo`"),),
    returns=(("repo, state", "as asked for"),
             ("sources_added, sources_removed", "files that came or went")),
)  # fmt: skip
_FOLDER = "/etc/apt/sources.list.d"
_MAIN = "/etc/apt/sources.list"
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive"}
Texts = Dict[str, List[str]]


def plan(task: step.Task) -> step.Plan:
    """Change the files, then fetch; what cannot be fetched is taken back."""
    args = task.args
    wanted = _normal(args["repo"])
    if wanted is None:
        if args["repo"].startswith("ppa:"):
            raise step.Failed("a PPA is not looked up: write its line, deb ADDRESS SUITE main")
        raise step.Failed(f"Invalid repository string: {args['repo']}")
    before = yield from _read()
    after = changed_files(args, before, wanted)
    result: Dict[str, Any] = {"repo": args["repo"], "state": args["state"], "changed": False}
    changed = [path for path in after if after[path] != before.get(path)]
    if not changed:
        return {**result, "sources_added": [], "sources_removed": []}
    yield from _write(args, after, changed)
    if args["update_cache"]:
        update = ("apt-get", "-q", "update")
        done = yield step.Execute(update, b"", "/", _ENVIRONMENT, implies=apt.LISTS)
        if done.code:
            yield from _write(args, {path: before.get(path, []) for path in changed}, changed)
            message = done.err.strip() or done.out.strip()[-500:]
            raise step.Failed(f"apt cache update failed: {message}", rc=done.code)
    added = [path for path in changed if path not in before and after[path]]
    removed = [path for path in changed if path in before and not after[path]]
    return {**result, "changed": True, "sources_added": added, "sources_removed": removed}


def _normal(line: str) -> Any:
    """Kind, options, address and the rest of a line; None when it is none."""
    text = line.partition("#")[0].strip()
    match = re.fullmatch(r"(deb(?:-src)?)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+\S+)*)", text)
    if match is None:
        return None
    options = " ".join((match.group(2) or "").split())
    return (match.group(1), options, match.group(3).rstrip("/"), match.group(4),
            tuple(match.group(5).split()))  # fmt: skip


def _read() -> step.Steps:
    files: Texts = {}
    found = yield step.Glob(_FOLDER + "/*.list")
    for path in (_MAIN, *found):
        content = yield step.Read(path)
        if content is not None:
            files[path] = content.decode("utf-8", "surrogateescape").splitlines()
    return files


def changed_files(args: Dict[str, Any], before: Texts, wanted: Any) -> Texts:
    """The files' lines as they shall be; a new line is in a file of its own."""
    target = f"{_FOLDER}/{args['filename'] or _suggested(args['repo'])}.list"
    after: Texts = {}
    is_there = False
    for path, lines in before.items():
        kept = []
        for line in lines:
            bare = re.sub(r"^[#\s]+", "", line)
            off = line.lstrip().startswith("#")
            if _normal(bare) != wanted:
                kept.append(line)
            elif args["state"] == "present":
                is_there = True
                kept.append(bare if off else line)
            elif off:
                kept.append(line)
        after[path] = kept
    if args["state"] == "present" and not is_there:
        after[target] = [*after.get(target, []), args["repo"].strip()]
    return after


def _suggested(line: str) -> str:
    """A name made of the address, as Ansible makes it."""
    text = re.sub(r"\w+://", "", re.sub(r"\[[^\]]+\]", "", line))
    words = [word for word in text.split() if word not in ("deb", "deb-src")]
    address = words[0].rpartition("@")[2] if words else ""
    return "_".join(re.sub("[^a-zA-Z0-9]", " ", address).split())


def _write(args: Dict[str, Any], files: Texts, changed: List[str]) -> step.Steps:
    for path in changed:
        if files[path]:
            content = "".join(line + "\n" for line in files[path])
            there = yield step.Stat(path)
            mode = {"mode": args["mode"] if there is None else None}
            yield from _files.ensure_content(path, content.encode("utf-8", "surrogateescape"), mode)
        elif (yield step.Stat(path)) is not None and path != _MAIN:
            yield step.Remove(path)
