"""What an effect changes, as text before and after: what `--diff` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sappers.provisioner.modules import step

DIFF_BYTES_MAX = 104448


class Diffs:
    """Shows effects before they are done.

    Args:
        read: A file's content, as a later step would read it.
        stat: What is at a path, likewise.
        fetch: A blob's content, chunk by chunk.
    """

    def __init__(
        self,
        read: Callable[[step.Read], bytes | None],
        stat: Callable[[step.Stat], step.Found | None],
        fetch: Callable[[step.Blob], Iterator[bytes]],
    ) -> None:
        self._read = read
        self._stat = stat
        self._fetch = fetch

    def of(self, effect: Any) -> dict[str, str] | None:
        """As a module's result has it; None where nothing is shown."""
        if type(effect) is step.WriteFile:
            before = _text(self._read(step.Read(effect.path)))
            return _about(effect.path, before, _text(self._content(effect.content)))
        if type(effect) is step.Remove:
            return {"before": effect.path + " is there\n", "after": ""}
        if type(effect) is step.Unpack:
            names = "".join(f"{effect.path}/{member.name}\n" for member in effect.members)
            return {"before": "", "after": names}
        if type(effect) in (step.MakeFolder, step.MakeLink):
            return {"before": "", "after": effect.path + " is there\n"}
        if type(effect) is step.SetAttributes:
            found = self._stat(step.Stat(effect.path, effect.follow))
            before = _attributes(found) if found else ""
            return _about(effect.path, before, _attributes(effect, found))
        return None

    def _content(self, content: Any) -> bytes:
        if isinstance(content, bytes):
            return content
        if content.size > DIFF_BYTES_MAX:
            return b"(%d bytes)\n" % content.size
        return b"".join(self._fetch(content))


def _about(path: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": path, "after_header": path, "before": before, "after": after}


def _text(content: bytes | None) -> str:
    if content is None:
        return ""
    if len(content) > DIFF_BYTES_MAX:
        return "(%d bytes)\n" % len(content)
    if b"\0" in content:
        return "(binary, %d bytes)\n" % len(content)
    return content.decode("utf-8", "replace")


def _attributes(wanted: Any, found: Any = None) -> str:
    mode, uid, gid = (
        getattr(found, name) if getattr(wanted, name) is None and found else getattr(wanted, name)
        for name in ("mode", "uid", "gid")
    )
    return f"mode {mode or 0:04o}, owner {uid}, group {gid}\n"
