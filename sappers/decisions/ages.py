"""Ages: when, at the earliest, another member said something, by the clock here. Pure.

Invariant: what is said to be no older than so much is not older, whatever clocks show, as long as
none drifts by more than `CLOCK_DRIFT_MAX`, and however late a message is read.
"""

from __future__ import annotations

from typing import NamedTuple

from sappers.decisions.fencing import CLOCK_DRIFT_MAX

_SLOWEST = (1 - CLOCK_DRIFT_MAX) / (1 + CLOCK_DRIFT_MAX)
_READ_ANEW_SECONDS = 20.0
_READ_ANEW_SECONDS_A_MEMBER = 0.02  # so that many do not ask one leader all the time


class ClockReading(NamedTuple):
    """What a leader's clock showed when it was asked.

    Attributes:
        leader_id, term: In which no host starts anew: its clock goes on.
        theirs: Seconds of its clock.
        asked_at: Seconds of ours before it was asked.
    """

    leader_id: str
    term: int
    theirs: float
    asked_at: float

    def said_at(self, theirs: float) -> float:
        """Our time when theirs was that, at the earliest."""
        passed = theirs - self.theirs
        return self.asked_at + (passed * _SLOWEST if passed > 0 else passed / _SLOWEST)

    def is_due(self, now: float, members: int) -> bool:
        """Whether to read it again: the older, the less is known."""
        lasts = _READ_ANEW_SECONDS + _READ_ANEW_SECONDS_A_MEMBER * members
        return now - self.asked_at >= lasts
