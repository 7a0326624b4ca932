"""What the monitor has heard, bounded however many talk. No clock, no network: `now` is given.

Times are monotonic seconds of the monitor's own clock.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

GUESTS_MAX = 2000
MEMBERS_MAX = 500
KINDS_MAX = 100
MESSAGE_BYTES_MAX = 16 * 1024
FORGET_SECONDS = 3600.0
TURNS_KEPT = 16
OTHER_KINDS = "other"

# What stays wrong, however long that takes, until another event about the same member ends it.
LASTING = {
    "member.dead": ("member.alive", "member.joined", "member.left"),
    "repair.failed": (
        *("repair.opened", "repair.restored", "repair.moved"),
        *("member.alive", "member.trusted", "member.joined", "member.left"),
    ),
}
_ENDED = ("allocation.stopped", "allocation.failed", "allocation.lost")
_TEXT_MAX = 160


@dataclass
class Seen:
    """What is known of one guest; the last changes of its health and its last boots."""

    boot_id: str = ""
    sequence: int = -1
    healthy: bool = False
    reason: str = ""
    pushes: int = 0
    boots: int = 0
    heard_at: float = 0.0
    turned_at: deque[float] = field(default_factory=lambda: deque(maxlen=TURNS_KEPT))
    booted_at: deque[float] = field(default_factory=lambda: deque(maxlen=TURNS_KEPT))


@dataclass
class Told:
    """The last event of a kind about a subject.

    `number`: its place in the cluster's record. `member`: whom it or its repair is about; empty
    where that is not known.
    """

    text: str
    at: float
    number: int = 0
    member: str = ""


class Gathered:
    """What guests pushed and what the cluster told, the newest of it."""

    def __init__(self) -> None:
        self.guests: dict[str, Seen] = {}
        self.members: dict[str, str] = {}
        self.events: Counter[str] = Counter()
        self.told: dict[tuple[str, str], Told] = {}
        self.lasting: dict[tuple[str, str], Told] = {}  # of LASTING, what nothing has ended
        self.heard_at = float("-inf")  # from any guest; the monitor hears itself, too
        self.unreadable = 0
        self.repeated = 0
        self.forgotten = 0

    def push(self, allocation_id: str, payload: bytes, now: float) -> None:
        """Take in one push; one that came before, or makes no sense, changes nothing else."""
        try:
            push = _read(payload)
            boot_id, sequence = str(push["boot_id"])[:64], int(push["sequence"])
            healthy, reason = bool(push["healthy"]), str(push.get("reason", ""))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            self.unreadable += 1
            return
        # Whoever spoke last stands last, so that the first is the one to forget.
        seen = self.guests.pop(allocation_id, None) or Seen()
        self.guests[allocation_id] = seen
        if boot_id != seen.boot_id:
            seen.boot_id, seen.sequence, seen.boots = boot_id, -1, seen.boots + 1
            seen.booted_at.append(now)
        if sequence <= seen.sequence:
            self.repeated += 1
            return
        if seen.pushes and healthy != seen.healthy:
            seen.turned_at.append(now)
        seen.sequence, seen.healthy, seen.heard_at = sequence, healthy, now
        self.heard_at = now
        seen.reason = _plain(reason)
        seen.pushes += 1
        while len(self.guests) > GUESTS_MAX:
            del self.guests[next(iter(self.guests))]
            self.forgotten += 1

    def event(self, payload: bytes, now: float) -> None:
        """Take in one event of the cluster."""
        try:
            event = _read(payload)
            kind, subject = str(event["kind"])[:64], str(event["subject"])[:128]
            text = _plain(str(event["text"]))
            number, cause = int(event.get("number", 0)), int(event.get("cause", 0))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            self.unreadable += 1
            return
        known = kind in self.events or len(self.events) < KINDS_MAX
        self.events[kind if known else OTHER_KINDS] += 1
        told = Told(text, now, number, self._member_of(kind, subject, cause))
        self.told.pop((kind, subject), None)
        self.told[kind, subject] = told
        while len(self.told) > GUESTS_MAX:
            del self.told[next(iter(self.told))]
        self._keep_lasting(kind, subject, told)
        if kind in _ENDED:
            self.guests.pop(subject, None)
        prefix, _, state = kind.partition(".")
        if prefix == "member" and state in ("joined", "alive", "suspect", "dead", "left"):
            self.members.pop(subject, None)
            self.members[subject] = "alive" if state == "joined" else state
            while len(self.members) > MEMBERS_MAX:
                del self.members[next(iter(self.members))]

    def _member_of(self, kind: str, subject: str, cause: int) -> str:
        """A repair follows from the newest event about its member; both say so by number."""
        sort = kind.partition(".")[0]
        if sort == "member":
            return subject
        if sort != "repair":
            return ""
        if kind != "repair.opened":
            opened = self.told.get(("repair.opened", subject))
            return opened.member if opened else ""
        heard = (*self.told.values(), *self.lasting.values())
        return next((told.member for told in heard if cause and told.number == cause), "")

    def _keep_lasting(self, kind: str, subject: str, told: Told) -> None:
        for key, before in list(self.lasting.items()):
            if kind in LASTING[key[0]] and told.member and before.member == told.member:
                del self.lasting[key]
        if kind in LASTING:
            self.lasting.pop((kind, subject), None)
            self.lasting[kind, subject] = told
            while len(self.lasting) > MEMBERS_MAX:
                del self.lasting[next(iter(self.lasting))]

    def forget(self, now: float) -> None:
        """Drop guests and events that are of no interest any more, and what nothing can end."""
        for name in [n for n, s in self.guests.items() if now - s.heard_at > FORGET_SECONDS]:
            del self.guests[name]
        for key in [k for k, told in self.told.items() if now - told.at > FORGET_SECONDS]:
            del self.told[key]
        endless = [key for key, told in self.lasting.items() if not told.member]
        for key in [k for k in endless if now - self.lasting[k].at > FORGET_SECONDS]:
            del self.lasting[key]


def metrics(gathered: Gathered, alerts: list[tuple[str, str]], now: float) -> str:
    """Everything as Prometheus reads it.

    Args:
        gathered: What was heard.
        alerts: Kind and subject of each that is raised.
        now: As everywhere here.
    """
    return "\n".join([*_lines(gathered, alerts, now), ""])


def _lines(gathered: Gathered, alerts: list[tuple[str, str]], now: float) -> Iterator[str]:
    guests = sorted(gathered.guests.items())
    for name, kind, text, values in (
        ("guest_healthy", "gauge", "Whether the last push said so.",
         [(n, int(seen.healthy)) for n, seen in guests]),
        ("guest_silent_seconds", "gauge", "Since the last push.",
         [(n, round(now - seen.heard_at, 3)) for n, seen in guests]),
        ("guest_pushes_total", "counter", "Pushes heard.", [(n, s.pushes) for n, s in guests]),
        ("guest_boots_total", "counter", "Boots seen.", [(n, s.boots) for n, s in guests]),
        ("guest_health_changes_recent", "gauge", "Changes of health that are remembered.",
         [(n, len(seen.turned_at)) for n, seen in guests]),
    ):  # fmt: skip
        yield from _family(name, kind, text, [({"allocation": n}, value) for n, value in values])
    kinds = [({"kind": kind}, count) for kind, count in sorted(gathered.events.items())]
    yield from _family("events_total", "counter", "Events of the cluster heard.", kinds)
    states = Counter(gathered.members.values())
    known = [({"state": s}, states[s]) for s in ("alive", "suspect", "dead", "left")]
    yield from _family("members_heard", "gauge", "Members by the last event about them.", known)
    raised = [({"kind": kind, "subject": subject}, 1) for kind, subject in sorted(alerts)]
    yield from _family("alert", "gauge", "1 for each alert that is raised.", raised)
    for name, text, value in (
        ("monitor_unreadable_messages_total", "Messages that made no sense.", gathered.unreadable),
        ("monitor_repeated_pushes_total", "Pushes that came before.", gathered.repeated),
        ("monitor_forgotten_guests_total", "Guests for which there was no room.",
         gathered.forgotten),
    ):  # fmt: skip
        yield from _family(name, "counter", text, [({}, value)])


def _family(
    name: str, kind: str, text: str, values: list[tuple[dict[str, str], Any]]
) -> Iterator[str]:
    yield f"# HELP sappers_{name} {text}"
    yield f"# TYPE sappers_{name} {kind}"
    for labels, value in values:
        inside = ",".join(f'{label}="{_escaped(told)}"' for label, told in labels.items())
        yield f"sappers_{name}{{{inside}}} {value}" if labels else f"sappers_{name} {value}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _read(payload: bytes) -> dict[str, Any]:
    if len(payload) > MESSAGE_BYTES_MAX:
        raise ValueError("too long")
    value = json.loads(payload)
    if not isinstance(value, dict):
        raise TypeError("no object")
    return value


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_TEXT_MAX])
