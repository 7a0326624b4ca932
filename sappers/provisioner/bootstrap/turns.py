"""One host after the other, with or without patience."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Turns:
    """Held by one host at a time.

    Args:
        patience_seconds: Who has waited so long goes on beside whoever holds it: one slow host
            must not hold up all others. None: for as long as it takes.
    """

    def __init__(self, patience_seconds: float | None) -> None:
        self._lock = threading.Lock()
        self._patience = -1 if patience_seconds is None else patience_seconds

    @contextmanager
    def turn(self, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Take it, for the block; `waits` is called when another host has it."""
        mine = self._lock.acquire(blocking=False)
        if not mine:
            waits()
            mine = self._lock.acquire(timeout=self._patience)
        try:
            yield
        finally:
            if mine:
                self._lock.release()
