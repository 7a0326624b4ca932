"""Types that threads decode: msgspec learns about each at its first use.

A second thread that uses a type meanwhile finds half of what is to be known, and the process
crashes. So whatever is decoded, or converted, in several threads is learned here first.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_known: set[Any] = set()
_learning = threading.Lock()


def learn(kind: type[T]) -> type[T]:
    """The type itself, of which msgspec knows all when this returns."""
    if kind not in _known:
        with _learning:
            msgspec.json.Decoder(kind)
            _known.add(kind)
    return kind
