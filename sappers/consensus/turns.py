"""Turns: when a voter's node ticks, so that few turns of the event loop are spent on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Turns:
    """Calls `tick` at once, in the next turn of the event loop, or at a time.

    Args:
        tick: May ask for its next turn itself.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._loop = asyncio.get_running_loop()
        self._is_soon = False
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> None:
        """Tick now; whoever asked for it soon has had it then."""
        self._is_soon = False
        self._tick()

    def take_soon(self) -> None:
        """Tick in the next turn: what else was read until then is taken together."""
        if not self._is_soon:
            self._is_soon = True
            self._loop.call_soon(self._take_if_still_asked)

    def take_after(self, seconds: float) -> None:
        """Tick then, in the place of what was said before.

        A timer that comes too early is left as it is: to set another one takes longer.
        """
        self._due = self._loop.time() + seconds
        if self._timer is not None and self._due < self._timer.when():
            self.end()
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._take_if_due)

    def end(self) -> None:
        """Set no timer any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take_if_still_asked(self) -> None:
        if self._is_soon:
            self.take()

    def _take_if_due(self) -> None:
        self._timer = None
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._take_if_due)
        else:
            self.take()
