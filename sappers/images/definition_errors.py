"""Mistakes in `image.toml`, with the line and column where they stand."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sappers.errors import ImageDefinitionError, ImageError, ImagePartError

_PART = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[{{1,2}}\s*({_KEY})\s*\]")
_SETTING = re.compile(rf"(\s*)({_KEY})\s*=")
_SCHEMA = "`sappers-deploy image schema` has all keys, and what each takes"


def toml_error(path: Path, text: str, error: tomllib.TOMLDecodeError) -> ImageDefinitionError:
    """A text that is no TOML."""
    message = re.sub(r" \(at .*\)$", "", str(error))
    if place := re.search(r"\(at line (\d+), column (\d+)\)", str(error)):
        return ImageDefinitionError(
            message, path=str(path), line=int(place[1]), column=int(place[2])
        )
    if "end of document" in str(error):
        return ImageDefinitionError(message, path=str(path), line=len(text.splitlines()))
    return ImageDefinitionError(message, path=str(path))


def shape_error(
    path: Path, text: str, raw: dict[str, Any], error: msgspec.ValidationError
) -> ImageDefinitionError:
    """A value of another type than its key takes, or a key that is none."""
    message, _, place = str(error).partition(" - at `")
    key = place.strip("`").removeprefix("key in ").lstrip("$").lstrip(".").split("[")[0]
    if place.startswith("$.environment["):  # it does not say which variable
        names = (name for name, value in raw[key].items() if not isinstance(value, str))
        key = f"{key}.{next(names, '')}".rstrip(".")
    if missing := re.search(r"missing required field `(\w+)`", message):
        message = f"`{missing[1]}` is missing"
        return ImageDefinitionError(message, path=str(path), line=1, hint=_SCHEMA)
    if unknown := re.search(r"unknown field `(\w+)`", message):
        key = f"{key}.{unknown[1]}".lstrip(".")
    return error_at(path, text, key, f"{key}: {message}" if key else message, hint=_SCHEMA)


@contextlib.contextmanager
def named_at(key: str) -> Iterator[None]:
    """What fails in this block is what the definition names at `table.key`.

    Raises:
        ImagePartError: In place of `ImageError`.
    """
    try:
        yield
    except ImagePartError:
        raise
    except ImageError as error:
        raise ImagePartError(error.message, key=key, hint=error.hint) from error


def error_at(
    path: Path, text: str, key: str, message: str, *, hint: str | None = None
) -> ImageDefinitionError:
    """A mistake in what stands at `table.key`."""
    line, column = _place_of(text, key)
    return ImageDefinitionError(message, path=str(path), line=line, column=column, hint=hint)


def _place_of(text: str, dotted_key: str) -> tuple[int | None, int | None]:
    """Line and column that set `table.key`; or where the table begins; or None."""
    table, _, key = dotted_key.rpartition(".")
    current, table_line = "", None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            current = _plain(header[1])
            if current in (dotted_key, table):
                table_line = number
            continue
        found = _SETTING.match(line)
        if found and (current, _plain(found[2])) in ((table, key), ("", dotted_key)):
            return number, len(found[1]) + 1
    if table_line is None and table:
        return _place_of(text, table)
    return table_line, None


def _plain(key: str) -> str:
    """A key as written in TOML, without spaces and quotes."""
    return ".".join(part.strip("\"'") for part in re.findall(_PART, key))
