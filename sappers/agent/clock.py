"""The machine's clock."""

from __future__ import annotations

import time


class SystemClock:
    """Implements `ports.Clock`."""

    def now(self) -> float:
        """Unix time in seconds; may jump."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC: the same for all processes, and what systemd reports."""
        return time.monotonic()
