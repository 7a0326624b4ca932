"""A leader's time, as its decisions count with it. Pure.

Invariant: however clocks differ and step, nothing that waits for a time is decided before that time
has passed, nor later than twice that time after the last step or change of leader.
"""

from __future__ import annotations

import math

import msgspec


class LeaderTime(msgspec.Struct, frozen=True):
    """What time it is, and how far back this leader can believe it.

    The log's stamps are of the wall clocks of whoever led, which differ and may step. So no stamp
    counts as older than the time for which this leader's own clock has gone on without a step.

    Attributes:
        now: Unix time in seconds.
        steady_seconds: For how long this member has led while its wall clock did not step.
    """

    now: float
    steady_seconds: float = math.inf

    def since(self, stamp: float) -> float:
        """Seconds since a stamp of the log.

        One of the future was made by a clock that is ahead of this one. It counts as old as can be:
        else nothing would follow from it before the clocks met again.
        """
        if stamp > self.now:
            return self.steady_seconds
        return min(self.now - stamp, self.steady_seconds)

    def is_over(self, begun: float, until: float) -> bool:
        """Whether a time that was stamped with its beginning and its end has passed."""
        return self.since(begun) >= until - begun
