"""The secrets that a run knows of: they are covered where they would be shown, and not kept.

What is covered is what users, hosts and files say: names, messages, results. What a run says of
itself (how tasks ended, counts, durations, the names of fields) is not: it tells no secret, and
covered where it happens to be the same it would give the secret away.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from sappers.errors import PlaybookError
from sappers.provisioner.source import read_text

# What is shorter is looked for as a whole value or line only: it is in other texts by accident.
_PART_LENGTH_MIN = 4
_ENCODED_LENGTH_MIN = 6
COVER = "********"
# User and password in an address.
_LOGIN = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")
# Names in results that are of a result, whatever the module.
_FIELDS = frozenset(
    ("ansible_facts", "ansible_loop_var", "attempts", "changed", "cmd", "delta", "diff", "elapsed",
     "end", "exception", "failed", "false_condition", "invocation", "item", "module_stderr",
     "module_stdout", "msg", "rc", "results", "skip_reason", "skipped", "start", "stderr",
     "stderr_lines", "stdout", "stdout_lines", "unreachable", "warnings")
)  # fmt: skip
# Numbers in them that are counted or measured, and hold nobody's data.
_COUNTED = frozenset({"attempts", "elapsed", "rc"})
_Value = TypeVar("_Value")


class SecretTexts:
    """Passwords, and what was opened of Vault."""

    def __init__(self) -> None:
        self._parts: set[str] = set()
        self._wholes: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, text: str) -> None:
        """A secret: a value, or a file of YAML with secret values."""
        try:
            content = read_text(text, "(secret)")
        except PlaybookError:
            content = None
        found = _values_in(content) if isinstance(content, dict | list) else text.splitlines()
        for one in (text.strip(), *found):
            if len(one.strip()) >= _PART_LENGTH_MIN:
                self._parts.add(one.strip())
            elif one.strip():
                self._wholes.add(one.strip())
        self._pattern = _pattern_of(self._parts)

    def are_in(self, value: Any) -> bool:
        """Whether a value of JSON holds one."""
        return bool(self.hidden(value) != value)

    def hidden(self, value: Any) -> Any:
        """A value of JSON, with all that is secret covered."""
        if isinstance(value, dict):
            return {name: self.hidden(one) for name, one in self.hidden_names(value).items()}
        if isinstance(value, list | tuple):
            return [self.hidden(one) for one in value]
        if isinstance(value, str):
            return self.hidden_text(value)
        if value is None or isinstance(value, bool):
            return value
        text = str(value)
        return value if self.hidden_text(text) == text else COVER

    def hidden_names(self, by_name: Mapping[Any, _Value]) -> dict[Any, _Value]:
        """A mapping with its names covered; those that look alike then still are apart."""
        found: dict[Any, _Value] = {}
        for name, one in by_name.items():
            shown = self.hidden(name)
            while shown in found:
                shown += "*"
            found[shown] = one
        return found

    def hidden_result(self, module: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """A task's result with what is secret covered, and not what only tells how it went."""
        told: dict[str, Any] = {}
        for name, value in result.items():
            if name == "results" and isinstance(value, list):
                shown: Any = [
                    self.hidden_result(module, one) if isinstance(one, dict) else self.hidden(one)
                    for one in value
                ]
            elif name in _COUNTED and isinstance(value, int | float) and module != "debug":
                shown = value
            else:
                shown = self.hidden(value)
            told[name if name in _FIELDS else self.hidden(name)] = shown
        return told

    def hidden_text(self, text: str) -> str:
        """A text, with all that is secret covered; also as JSON writes it, and in addresses."""
        if "://" in text:
            text = _LOGIN.sub(rf"\1:{COVER}@", text)
        if self._wholes:
            text = "".join(map(self._hidden_line, text.splitlines(keepends=True)))
        return self._pattern.sub(COVER, text) if self._pattern else text

    def _hidden_line(self, line: str) -> str:
        whole = line.strip()
        return line.replace(whole, COVER) if whole in self._wholes else line


def _pattern_of(parts: set[str]) -> re.Pattern[str] | None:
    """What finds them as they are, as JSON writes them and in base64; the longer ones first."""
    written = {
        form
        for part in parts
        for form in (
            part,
            json.dumps(part)[1:-1],
            json.dumps(part, ensure_ascii=False)[1:-1],
            *_in_base64(part.encode()),
        )
    }
    longest_first = sorted(written, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if written else None


def _in_base64(secret: bytes) -> list[str]:
    """How base64 writes it wherever it stands in what is encoded, but what it shares with others.

    None of short ones, which are in other texts by accident.
    """
    if len(secret) < _ENCODED_LENGTH_MIN:
        return []
    found = []
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret).decode()
        found.append(text[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6])
    return found


def _values_in(value: Any) -> list[str]:
    """All that stands in mappings and lists, without the names."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in _values_in(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _values_in(one)]
    return [] if value is None or isinstance(value, bool) else [str(value)]
