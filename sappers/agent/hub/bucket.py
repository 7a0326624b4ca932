"""A bound on how often something may happen, kept by refusing."""

from __future__ import annotations


class Bucket:
    """A token bucket: `burst` at once, `per_second` in the long run."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Whether it may happen now, in monotonic seconds; then it counts as having happened."""
        gained = (now - self._at) * self._per_second
        self._left = min(self._burst, self._left + gained)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
