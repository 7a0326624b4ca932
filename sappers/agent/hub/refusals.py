"""What was refused here, by who tried and what: bounded however many try."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sappers.model.refusal import Refusal, RefusalKind
from sappers.ports import Clock

SUBJECTS_MAX = 256
SHOWN_MAX = 32
SHOWN_SECONDS = 600.0
OTHERS = "others"


class Refusals:
    """Counts refusals; implements `ports.Refusals`.

    Of many that try, those heard of least recently are counted together as `OTHERS`; the totals
    stay exact.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[tuple[RefusalKind, str], tuple[int, float]] = {}
        self._totals: Counter[RefusalKind] = Counter()

    def count(self, kind: RefusalKind, subject: str, times: int = 1) -> None:
        """Somebody was refused something."""
        self._totals[kind] += times
        self._add(kind, subject, times, self._clock.monotonic())
        while len(self._counts) > SUBJECTS_MAX + len(RefusalKind):
            oldest = next(key for key in self._counts if key[1] != OTHERS)
            count, at = self._counts.pop(oldest)
            self._add(oldest[0], OTHERS, count, at)

    def _add(self, kind: RefusalKind, subject: str, times: int, at: float) -> None:
        """The table stays in the order of the last time."""
        before, last_at = self._counts.pop((kind, subject), (0, at))
        self._counts[kind, subject] = (before + times, max(at, last_at))

    def snapshot(self) -> tuple[Refusal, ...]:
        """What was refused within `SHOWN_SECONDS`, the most frequent first, at most `SHOWN_MAX`."""
        now = self._clock.monotonic()
        found = [
            Refusal(kind.value, subject, count, round(now - at, 1))
            for (kind, subject), (count, at) in self._counts.items()
            if now - at <= SHOWN_SECONDS
        ]
        found.sort(key=lambda one: (-one.count, one.subject, one.kind))
        return tuple(found[:SHOWN_MAX])

    def totals(self) -> Mapping[str, int]:
        """By kind, since the agent started."""
        return {kind.value: self._totals[kind] for kind in RefusalKind}
