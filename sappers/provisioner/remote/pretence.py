"""What would be true had the effects of check mode been done; asked before the system is.

So a file that goes into a folder that an earlier task would make is announced, and not an error.
"""

from __future__ import annotations

import fnmatch
import os
import time
from typing import Any

from sappers.provisioner.modules import step
from sappers.provisioner.remote import digests


class Pretence:
    """Paths and answers that effects would change, by path and by topic."""

    def __init__(self) -> None:
        self._paths: dict[str, Any] = {}  # Found, or None where nothing would be
        self._contents: dict[str, bytes] = {}
        self._as_it_is: set[str] = set()  # of these only mode and owner would change
        self.topics: dict[str, Any] = {}

    def copy(self) -> Pretence:
        """Another one that goes on from here."""
        other = Pretence()
        other._paths, other._contents = dict(self._paths), dict(self._contents)
        other._as_it_is, other.topics = set(self._as_it_is), dict(self.topics)
        return other

    def knows(self, path: str) -> bool:
        """Whether something would be different at a path."""
        return path in self._paths or self._removed_with_parent(path)

    def found(self, path: str) -> step.Found | None:
        """What would be there."""
        found = self._paths.get(path)
        return found if isinstance(found, step.Found) else None

    def holds_other(self, path: str) -> bool:
        """Whether a file's content would be another than what is there."""
        return self.knows(path) and path not in self._as_it_is

    def content(self, path: str) -> bytes | None:
        """What a file would hold, None where that is not known here."""
        return self._contents.get(path)

    def names(self, folder: str, there: list[str] | None) -> list[str] | None:
        """The names in a folder, with those that would come and without those that would go."""
        if self.knows(folder) and self.found(folder) is None:
            return None
        if self.knows(folder):
            there = there or []
        if there is None:
            return None
        names = set(there)
        for path, found in self._paths.items():
            parent, name = os.path.split(path)
            if parent == folder:
                (names.discard if found is None else names.add)(name)
        return sorted(names)

    def matches(self, pattern: str) -> list[str]:
        """The paths that would be there and match a shell pattern, as `glob` has it."""
        parts = pattern.split("/")
        return [
            path
            for path, found in self._paths.items()
            if found is not None
            and path.count("/") == len(parts) - 1
            and all(map(fnmatch.fnmatch, path.split("/"), parts))
        ]

    def _removed_with_parent(self, path: str) -> bool:
        parent = os.path.dirname(path)
        while len(parent) > 1:
            if parent in self._paths:
                return self._paths[parent] is None
            parent = os.path.dirname(parent)
        return False

    def remember(self, effect: Any, before: step.Found | None, content: bytes | None) -> None:
        """Take an effect as done.

        Args:
            before: What is at its path, or would be; of a copy or a hard link, at its source.
            content: What a written file holds, where it is here.
        """
        kind = type(effect)
        if kind is step.Execute:
            self._ran(effect)
            return
        if kind is step.Unpack:
            self._unpack(effect)
            return
        path = effect.path
        if kind is step.SetAttributes:
            if not self.knows(path):
                self._as_it_is.add(path)
        else:
            self._as_it_is.discard(path)
            self._contents.pop(path, None)
        if kind is step.Remove:
            self._paths[path] = None
        elif kind is step.WriteFile:
            self._write(effect, content)
        elif kind is step.MakeFolder:
            self._paths[path] = _found("directory", effect.mode, effect.uid, effect.gid)
        elif kind is step.MakeLink:
            link = _found("link", 0o777, target=effect.target)
            self._paths[path] = _with_a_name_more(before) if effect.hard else link
        elif kind is step.Touch and before is None:
            self._paths[path] = _found("file", effect.mode, os.geteuid(), os.getegid())
            self._contents[path] = b""
        elif kind is step.SetAttributes and before is not None:
            self._paths[path] = before._replace(
                mode=before.mode if effect.mode is None else effect.mode,
                uid=before.uid if effect.uid is None else effect.uid,
                gid=before.gid if effect.gid is None else effect.gid,
            )
        elif kind is step.CopyFile:
            self._paths[path] = before

    def _ran(self, effect: Any) -> None:
        self.topics.update(dict(effect.implies))
        for one in effect.amounts_to:
            self.remember(one, None, getattr(one, "content", None))

    def _unpack(self, effect: Any) -> None:
        for one in effect.members:
            path = effect.path.rstrip("/") + "/" + one.name
            kind = "file" if one.kind == "hard" else one.kind
            made = _found(kind, one.mode, one.uid, one.gid, one.target)
            self._paths[path] = made._replace(size=one.size)
            self._as_it_is.discard(path)
            self._contents.pop(path, None)

    def _write(self, effect: Any, content: bytes | None) -> None:
        if isinstance(effect.content, step.Blob):
            blob = effect.content
            known = {"sha256": blob.sha256, "sha1": blob.sha1}
            size = blob.size
        else:
            known = {
                name: digests.hex_of(name, effect.content) for name in ("sha256", "sha1", "md5")
            }
            size = len(effect.content)
        found = _found("file", effect.mode, effect.uid, effect.gid)
        self._paths[effect.path] = found._replace(size=size, digests=known)
        if content is not None:
            self._contents[effect.path] = content


def _with_a_name_more(found: step.Found | None) -> step.Found:
    found = found or _found("file", 0o666)
    return found._replace(raw={**found.raw, "st_nlink": found.raw["st_nlink"] + 1})


def _found(kind: str, mode: int, uid: int = 0, gid: int = 0, target: str = "") -> step.Found:
    now = time.time()
    raw: dict[str, Any] = {"st_nlink": 1, "st_ino": 0, "st_dev": 0, "st_mode": mode}
    raw.update({"st_atime": now, "st_mtime": now, "st_ctime": now})
    return step.Found(kind, mode, uid, gid, 0, target, {}, raw)
