"""The machine's clock."""

from __future__ import annotations

import time

from sappers.ports import Clock

STEP_SECONDS = 1.0


class SystemClock:
    """Implements `ports.Clock`."""

    def now(self) -> float:
        """Unix time in seconds; may jump."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC: the same for all processes, and what systemd reports."""
        return time.monotonic()


class StepWatch:
    """Reads a clock, and notes when the wall's has stepped against the monotonic one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead: float | None = None
        self._stepped_at = float("-inf")

    def read(self) -> tuple[float, float]:
        """Unix time, and for how many seconds it has not stepped by `STEP_SECONDS` or more.

        Clocks that are set little by little do not step; those of a machine that slept do.
        """
        now, monotonic = self._clock.now(), self._clock.monotonic()
        ahead = now - monotonic
        if self._ahead is not None and abs(ahead - self._ahead) >= STEP_SECONDS:
            self._stepped_at = monotonic
        self._ahead = ahead
        return now, monotonic - self._stepped_at
