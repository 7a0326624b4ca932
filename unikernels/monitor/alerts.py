"""When something is wrong for long enough to say so, and right for long enough to take it back.

Pure: what is wrong now and the time are given, changes come out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gathered import Gathered

ALERTS_MAX = 64
# So long silent, then so long watched: after a gap of the hub not all guests speak at once.
SILENT_SECONDS, SILENT_HOLD_SECONDS = 10.0, 5.0
UNHEALTHY_SECONDS = 30.0
FLAPPING_TURNS, FLAPPING_SECONDS = 4, 120.0
RESTARTED_BOOTS, RESTARTED_SECONDS = 3, 600.0
CLEAR_SECONDS = 20.0
EVENT_SECONDS = 300.0

# What of the cluster's own events is wrong for a while; `gathered.LASTING` is until it is ended.
_PASSING = ("allocation.failed", "allocation.lost")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Wrong(NamedTuple):
    """One thing that is wrong now; told apart by kind and subject.

    `hold_seconds`: how long it must be so before anybody is told.
    """

    kind: str
    subject: str
    text: str
    hold_seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.kind, self.subject


class Change(NamedTuple):
    """An alert was raised, or is over."""

    raised: bool
    wrong: Wrong


class Alerts:
    """Raises after a hold, clears after `CLEAR_SECONDS`: what comes and goes is said once."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}
        self._raised: dict[tuple[str, str], Wrong] = {}
        self._last_wrong: dict[tuple[str, str], float] = {}

    @property
    def raised(self) -> list[Wrong]:
        """All that is wrong, in the order in which it was raised."""
        return list(self._raised.values())

    def update(self, wrong: Iterable[Wrong], now: float) -> list[Change]:
        """What changed, given all that is wrong now."""
        found = {one.key: one for one in wrong}
        self._since = {key: self._since.get(key, now) for key in found}
        changes: list[Change] = []
        for key in list(self._raised):
            if key in found:
                self._last_wrong[key] = now
            elif now - self._last_wrong[key] >= CLEAR_SECONDS:
                changes.append(Change(raised=False, wrong=self._raised.pop(key)))
                del self._last_wrong[key]
        for key, one in found.items():
            held = now - self._since[key] >= one.hold_seconds
            if held and key not in self._raised and len(self._raised) < ALERTS_MAX:
                self._raised[key] = one
                self._last_wrong[key] = now
                changes.append(Change(raised=True, wrong=one))
        return changes


def find_wrong(gathered: Gathered, now: float) -> Iterator[Wrong]:
    """All that is wrong by what was heard."""
    for allocation_id, seen in gathered.guests.items():
        if not _NAME.fullmatch(allocation_id):
            continue
        if now - seen.heard_at > SILENT_SECONDS:
            seconds = SILENT_SECONDS + SILENT_HOLD_SECONDS
            text = f"it has pushed no health for over {seconds:.0f} s"
            yield Wrong("guest.silent", allocation_id, text, SILENT_HOLD_SECONDS)
        elif not seen.healthy:
            text = f"it is not well: {seen.reason or 'it does not say why'}"
            yield Wrong("guest.unhealthy", allocation_id, text, UNHEALTHY_SECONDS)
        if _lately(seen.turned_at, FLAPPING_SECONDS, now) >= FLAPPING_TURNS:
            yield Wrong("guest.flapping", allocation_id, "its health changes again and again")
        if _lately(seen.booted_at, RESTARTED_SECONDS, now) >= RESTARTED_BOOTS:
            text = f"it booted {RESTARTED_BOOTS} times within {RESTARTED_SECONDS / 60:.0f} min"
            yield Wrong("guest.restarted-often", allocation_id, text)
    yield from _of_events(gathered, now)


def _of_events(gathered: Gathered, now: float) -> Iterator[Wrong]:
    passing = (
        (key, told)
        for key, told in gathered.told.items()
        if key[0] in _PASSING and now - told.at <= EVENT_SECONDS
    )
    for (kind, subject), told in (*passing, *gathered.lasting.items()):
        if _NAME.fullmatch(subject):
            yield Wrong(kind, subject, told.text)


def _lately(times: Iterable[float], seconds: float, now: float) -> int:
    return sum(now - at <= seconds for at in times)
