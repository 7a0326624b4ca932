"""A host made of data: answers the questions of modules, and takes their effects as done."""

from __future__ import annotations

import fnmatch
import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sappers.provisioner.modules import control_step, step
from sappers.provisioner.remote.pretence import Pretence

ROOT = {"name": "root", "uid": 0, "gid": 0, "comment": "root", "home": "/root",
        "shell": "/bin/bash", "groups": []}  # fmt: skip

# What system calls say of a host that has nothing.
NO_SYSTEM: Mapping[str, Any] = {
    "facts": {"real_user_id": 0}, "usable_cpus": 1, "interfaces": [], "sources": {}, "rooms": {},
    "now": 0.0,
}  # fmt: skip


class World:
    """What `paths`, `accounts` and `says` of a case describe.

    Args:
        paths: By path: a text (a file's content), or `kind`, `content`, `mode`, `uid`, `gid`,
            `target`.
        accounts: By `passwd:NAME` and the like.
        says: By a pattern of command lines: the output, or `code`, `out`, `err`.
        answers: By URL what a server says (`status`, `content`, `headers`); by `on_host: MODULE` a
            list of results in turn; by `system` what system calls say; by `kept` files of the
            control machine with their SHA-1; by `prompt` what a person answers.
        archive: The members of any archive, with what differs from a plain file.
    """

    def __init__(
        self,
        paths: Mapping[str, Any] | None = None,
        accounts: Mapping[str, Any] | None = None,
        says: Mapping[str, Any] | None = None,
        answers: Mapping[str, Any] | None = None,
        archive: list[dict[str, Any]] | None = None,
    ) -> None:
        self._paths = {"/": {"kind": "directory"}, **(paths or {})}
        self._accounts = {
            "passwd:root": ROOT, "passwd:0": ROOT, "passwd:": ROOT,
            "group:root": {"name": "root", "gid": 0, "members": []},
            "group:0": {"name": "root", "gid": 0, "members": []}, **(accounts or {}),
        }  # fmt: skip
        self._says = says or {}
        self._answers = answers or {}
        self._archive = archive or []
        self._contents: dict[str, bytes] = {}
        self._clock = 1_000_000.0
        self._pretence = Pretence()
        self._kept: dict[str, str | None] = {}
        self.effects: list[Any] = []

    def run(self, plan: Any) -> dict[str, Any]:
        """Drive a plan to its end; its result."""
        answer = None
        while True:
            try:
                wanted = plan.send(answer)
            except StopIteration as end:
                return dict(end.value)
            except step.Failed as failed:
                return {"failed": True, "msg": failed.message, **failed.result}
            answer = self._answer(wanted)

    def _answer(self, one: Any) -> Any:  # noqa: C901 — one line a question
        if isinstance(one, control_step.Keep | control_step.Disconnect):
            self.effects.append(one)
            if isinstance(one, control_step.Keep) and one.last:
                self._kept["/".join((one.folder.rstrip("/"), *one.names))] = one.sha1
            return None
        if isinstance(one, step.Effects):
            self.effects.append(one)
            before = self._stat(getattr(one, "path", "/"))
            content = getattr(one, "content", None)
            self._pretence.remember(one, before, content if isinstance(content, bytes) else None)
            return self._said(one.argv) if isinstance(one, step.Execute) else None
        match one:
            case step.Stat():
                return self._stat(one.path, one.digests)
            case step.Read():
                return self._read(one.path)
            case step.Texts():
                return {path: (self._read(path) or b"").decode() for path in one.paths}
            case step.System():
                return {**NO_SYSTEM, **self._answers.get("system", {})}
            case step.Names():
                return self._pretence.names(one.path, self._names(one.path))
            case step.Glob():
                return sorted(path for path in self._paths if fnmatch.fnmatch(path, one.pattern))
            case step.RealPath():
                return one.path
            case step.Expand():
                return list(one.texts)
            case step.Access():
                return "rw"
            case step.Account():
                topic = f"{one.database}:{one.name}"
                return self._pretence.topics.get(topic, self._accounts.get(topic))
            case step.Ask():
                if one.topic in self._pretence.topics:
                    return step.Completed(*self._pretence.topics[one.topic])
                return self._said(one.argv)
            case step.Try():
                return self._said(one.command)
            case step.Pause():
                self._clock += one.seconds
                return self._clock
            case control_step.Now():
                return self._clock
            case step.Request():
                return self._response(one)
            case step.Load():
                return self._contents[one.blob.sha256]
            case step.Digest():
                return hashlib.new(one.algorithm, self._contents[one.blob.sha256]).hexdigest()
            case step.Members():
                return [self._member(one.folder, member) for member in self._archive]
            case control_step.OnHost():
                left = self._answers[f"on_host: {one.module}"]
                return dict(left.pop(0) if len(left) > 1 else left[0])
            case control_step.Raw():
                return self._said(["raw", one.line])
            case control_step.Prompt():
                return self._answers.get("prompt")
            case control_step.Kept():
                path = "/".join((one.folder.rstrip("/"), *one.names))
                return self._kept.get(path, self._answers.get("kept", {}).get(path))
        raise AssertionError(f"no answer to {one}")

    def _response(self, one: step.Request) -> step.Response:
        said = self._answers.get(one.url)
        if said is None:
            return step.Response(-1, "Request failed: nobody there", one.url)
        content = str(said.get("content", "")).encode()
        sha256 = hashlib.sha256(content).hexdigest()
        self._contents[sha256] = content
        blob = step.Blob(sha256, hashlib.sha1(content).hexdigest(), len(content))
        status = said.get("status", 200)
        reason = "OK" if status == 200 else f"HTTP Error {status}"
        headers = tuple((said.get("headers") or {}).items())
        return step.Response(status, reason, said.get("url", one.url), headers, blob, "md5")

    def _member(self, folder: str, given: dict[str, Any]) -> Any:
        plain = {"kind": "file", "mode": 0o644, "uid": -1, "gid": -1, "size": 0, "modified": 5}
        found = self._stat(folder.rstrip("/") + "/" + given["name"])
        return step.Member(**{**plain, "target": "", **given}), found

    def _said(self, argv: Any) -> step.Completed:
        line = shlex.join(argv)
        for pattern, said in self._says.items():
            if fnmatch.fnmatch(line, pattern):
                if not isinstance(said, dict):
                    said = {"out": str(said)}
                out, err = said.get("out", ""), said.get("err", "")
                return step.Completed(said.get("code", 0), out.encode(), err.encode())
        return step.Completed(0, b"", b"")

    def _entry(self, path: str) -> dict[str, Any] | None:
        entry = self._paths.get(path)
        return {"content": entry} if isinstance(entry, str) else entry

    def _read(self, path: str) -> bytes | None:
        if self._pretence.holds_other(path):
            return self._pretence.content(path)
        entry = self._entry(path)
        return None if entry is None else str(entry.get("content", "")).encode()

    def _names(self, folder: str) -> list[str] | None:
        if self._entry(folder) is None:
            return None
        return [Path(path).name for path in self._paths if str(Path(path).parent) == folder]

    def _stat(self, path: str, digests: tuple[str, ...] = ()) -> step.Found | None:
        if self._pretence.knows(path):
            return self._pretence.found(path)
        entry = self._entry(path)
        if entry is None:
            return None
        content = str(entry.get("content", "")).encode()
        kind = entry.get("kind", "file")
        mode = int(str(entry.get("mode", "0755" if kind == "directory" else "0644")), 8)
        raw = {"st_mode": mode, "st_ino": hash(path), "st_dev": 1, "st_nlink": 1, "st_atime": 5.0,
               "st_mtime": entry.get("mtime", 5.0), "st_ctime": 5.0}  # fmt: skip
        return step.Found(
            kind, mode, entry.get("uid", 0), entry.get("gid", 0), len(content),
            entry.get("target", ""),
            {name: hashlib.new(name, content).hexdigest() for name in digests}, raw,
        )  # fmt: skip


def described(effect: Any) -> dict[str, Any]:
    """An effect as the data files write it: its name, and what is not a default."""
    values = {
        name: value
        for name, value in effect._asdict().items()
        if value != effect._field_defaults.get(name, object())
        and name not in ("implies", "amounts_to")
    }
    for name, value in values.items():
        if isinstance(value, bytes):
            values[name] = value.decode()
        elif name == "names":
            values[name] = list(value)
        elif name == "members":
            values[name] = [member.name for member in value]
        elif name == "mode" and value is not None:
            values[name] = f"{value:04o}"
        elif name == "argv":
            values[name] = shlex.join(value)
        elif isinstance(value, step.Blob):
            values[name] = f"blob of {value.size} bytes"
    return {type(effect).__name__: values}
