"""Clocks that stand still until a test moves them; both implement `ports.Clock`."""

from __future__ import annotations


class FixedClock:
    """The wall's and the monotonic time are one."""

    def __init__(self, time: float = 10.0) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class SteppingClock:
    """The wall's can be set apart from the monotonic one."""

    def __init__(self) -> None:
        self._wall = 1_000_000_000.0
        self._monotonic = 50.0

    def now(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """As time goes."""
        self._wall += seconds
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the wall's alone."""
        self._wall += seconds
