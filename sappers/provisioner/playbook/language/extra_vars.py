"""Reads `-e`: names and values, JSON or YAML, or a file of either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sappers.provisioner.playbook.language.arguments import split_words, written_value
from sappers.provisioner.source import Decrypt, Mapping, read_file, read_text


def read_extra_vars(text: str, decrypt: Decrypt | None = None) -> dict[str, Any]:
    """The variables of one `-e`.

    Args:
        decrypt: Opens a file that is encrypted with Vault.

    Raises:
        ValueError: It is none of the three forms.
        PlaybookError: A file cannot be read, or is no YAML.
    """
    text = text.strip()
    if text.startswith("@"):
        return _mapping(read_file(Path(text[1:]).expanduser(), decrypt))
    if text[:1] in ("{", "["):
        return _mapping(read_text(text, "(-e)"))
    found: dict[str, Any] = {}
    for begin, end in split_words(text):
        name, sign, value = text[begin:end].partition("=")
        if not sign or not name.isidentifier():
            raise ValueError(f"{text[begin:end]!r} is no NAME=VALUE")
        found[name] = written_value(value)
    return found


def _mapping(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise ValueError("it is no mapping of names to values")
    return content
