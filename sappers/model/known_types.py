"""Types that threads decode: msgspec learns about each at its first use.

A second thread that uses a type meanwhile finds half of what is to be known, and the process
crashes. So whatever is decoded, or converted, in several threads is learned here first: all there
is before an agent has a thread, one by one where commands would wait for what they do not use.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

# What decoding raises of bytes that are not what they have to be: no text, say, or nested too deep.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_known: set[Any] = set()
_learning = threading.Lock()


def learn(kind: type[T]) -> type[T]:
    """The type itself, of which msgspec knows all when this returns."""
    if kind not in _known:
        with _learning:
            msgspec.json.Decoder(kind)
            _known.add(kind)
    return kind


def learn_all() -> None:
    """Learn every struct that is imported."""
    for kind in _below(msgspec.Struct):
        with suppress(TypeError):  # nobody can decode it
            learn(kind)


def _below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)
