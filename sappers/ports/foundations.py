"""What nearly everything needs: time, and the count of what was refused."""

from __future__ import annotations

from typing import Protocol

from sappers.model.refusal import RefusalKind


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> float:
        """Unix time in seconds; may jump."""

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps."""


class Refusals(Protocol):
    """Counts what guests and strangers tried and were refused (`agent/`)."""

    def count(self, kind: RefusalKind, subject: str, times: int = 1) -> None:
        """Somebody (an allocation id, or an address) was refused something."""
