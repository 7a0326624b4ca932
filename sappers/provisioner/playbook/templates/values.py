"""What templates ask for and what they yield: variables, data, nothing, undefined, `omit`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import GeneratorType
from typing import Any, Protocol

import jinja2
from jinja2.runtime import StrictUndefined

from sappers.errors import PlaybookError

MISSING = object()
_EMPTY: dict[str, str] = {}
_VIEWS = (type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))
_LAZY: tuple[type, ...] = (GeneratorType, map, filter, zip, range, reversed, *_VIEWS)


class NotYetKnown(Exception):
    """A template asks for what a task under way will tell: it has to wait."""


class NeedsOthers(Exception):
    """A template asks for what other hosts know, and they may not be as far: it has to wait."""


class UndefinedVariable(PlaybookError):
    """A template uses what is not defined."""


class Variables(Protocol):
    """Where templates find variables."""

    def find(self, name: str) -> Any:
        """A variable's value, rendered, or `MISSING`."""


class _Omit:
    """The value of `omit`: an argument that is it is not given."""

    def __repr__(self) -> str:
        return "omit"


OMIT = _Omit()


class Undefined(StrictUndefined):
    """Undefined, and so is all that is below it; an error only where it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self


def together(values: Iterable[Any]) -> Any:
    """What parts of a template yield together: the only one itself, else their text."""
    found = [value for value in values if value is not None]
    if len(found) == 1:
        return found[0]
    return "".join(map(_as_text, found)) if found else None


def _as_text(value: Any) -> str:
    """Nothing, which Jinja writes as None, is no text at all, as for Ansible."""
    if type(value) is str:
        return value
    return "" if value is None or value is OMIT or is_no_value(value) else str(plain(value))


def is_no_value(value: Any) -> bool:
    """What an `if` without `else` yields where it does not hold."""
    return type(value) is jinja2.Undefined


def plain(value: Any) -> Any:
    """A template's value as data: lists of what is lazy, texts of markup; undefined is an error."""
    if is_no_value(value):
        raise jinja2.UndefinedError("an `if` without `else` has no value here")
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises, with what Jinja knows of it
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(one) for key, one in value.items() if one is not OMIT}
    if isinstance(value, _LAZY) or (
        isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray)
    ):
        assert isinstance(value, Iterable)
        return [plain(one) for one in value if one is not OMIT]
    return value
