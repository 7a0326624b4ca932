"""The secrets that a run knows of: they are covered where they would be shown, and not kept."""

from __future__ import annotations

import json
from typing import Any

from sappers.errors import PlaybookError
from sappers.provisioner.source import read_text

# What is shorter is looked for as a whole text only: it is in other texts by accident.
_PART_LENGTH_MIN = 4
COVER = "********"


class SecretTexts:
    """Passwords, and what was opened of Vault."""

    def __init__(self) -> None:
        self._parts: set[str] = set()
        self._wholes: set[str] = set()

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

    def are_in(self, value: Any) -> bool:
        """Whether a value of JSON holds one."""
        if not (self._parts or self._wholes):
            return False
        return any(
            text in self._wholes or any(part in text for part in self._parts)
            for text in (*_values_in(value), *_names_in(value))
        )

    def hidden(self, value: Any) -> Any:
        """A value of JSON, with all that is secret covered."""
        if not (self._parts or self._wholes):
            return value
        if isinstance(value, dict):
            return {self.hidden(key): self.hidden(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.hidden(one) for one in value]
        if isinstance(value, str):
            return self.hidden_text(value)
        return COVER if value is not None and self.are_in(value) else value

    def hidden_text(self, text: str) -> str:
        """A text, with all that is secret covered; also as JSON writes it."""
        if text in self._wholes:
            return COVER
        for part in sorted(self._parts, key=len, reverse=True):
            text = text.replace(part, COVER).replace(json.dumps(part)[1:-1], COVER)
            text = text.replace(json.dumps(part, ensure_ascii=False)[1:-1], COVER)
        return text


def _values_in(value: Any) -> list[str]:
    """All that stands in mappings and lists, without the names."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in _values_in(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _values_in(one)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


def _names_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        below = [text for one in value.values() for text in _names_in(one)]
        return [*map(str, value), *below]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _names_in(one)]
    return []
