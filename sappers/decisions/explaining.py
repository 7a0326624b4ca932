"""Which events explain how something came to be as it is. Pure.

An event names the one that it follows from (`cause`), which is always further back. So one pass
forward finds what followed from the events that are asked for, and the causes lead back to
what was suspected or wanted at first. Nothing is guessed by time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

import msgspec

from sappers.model.cluster_state import ClusterState
from sappers.model.event import Event, is_about


class Phase(StrEnum):
    """What part of a story an event is."""

    ASKED = "asked"
    SUSPICION = "suspicion"
    DECISION = "decision"
    ACTION = "action"
    HEALTH = "health"


_PHASES: Mapping[str, Phase] = {
    **dict.fromkeys(("workload", "image", "image-key", "repair-key"), Phase.ASKED),
    "cluster.restored": Phase.ASKED,
    "member.forgotten": Phase.DECISION,
    **dict.fromkeys(("member.cordoned", "member.drained", "member.uncordoned"), Phase.ASKED),
    **dict.fromkeys(("member.suspect", "member.suspected", "member.dead"), Phase.SUSPICION),
    **dict.fromkeys(("allocation.unhealthy", "allocation.failed"), Phase.SUSPICION),
    **dict.fromkeys(("allocation.lost", "member.left", "alert.raised"), Phase.SUSPICION),
    **dict.fromkeys(("allocation.starting", "allocation.stopped"), Phase.ACTION),
    **dict.fromkeys(("repair.claimed", "repair.step", "repair.refused"), Phase.ACTION),
    **dict.fromkeys(("member.fenced", "member.not-fenced"), Phase.ACTION),
    **dict.fromkeys(("allocation.healthy", "member", "alert.cleared"), Phase.HEALTH),
    **dict.fromkeys(("repair.restored", "repair.moved", "repair.failed"), Phase.HEALTH),
}


def phase_of(kind: str) -> Phase:
    """What part of a story an event of this kind is; a decision, if nothing else."""
    return _PHASES.get(kind) or _PHASES.get(kind.partition(".")[0], Phase.DECISION)


# A guest that runs again ends what its member's death began; what it does later is its own story.
_ENDS = ("allocation.healthy", "allocation.stopped", "member.alive")


class Asked(msgspec.Struct, frozen=True):
    """What a name stands for.

    Attributes:
        subjects: Of events; empty where the state knows nothing of that name.
        now: How each of them is, one sentence.
    """

    subjects: frozenset[str]
    now: tuple[str, ...]


def find_asked(state: ClusterState, name: str) -> Asked:
    """The workload, member (by name or id), allocation and repair of that name."""
    subjects: list[str] = []
    now: list[str] = []
    if (workload := state.workloads.get(name)) is not None:
        guests = [a for a in state.allocations_of(name) if not a.status.is_terminal]
        healthy = sum(a.status == "healthy" for a in guests)
        subjects.append(name)
        now.append(f"workload {name}: {healthy} of {workload.count} healthy")
    for _, member in sorted(state.members.items()):
        if name in (member.id, member.name):
            subjects.append(member.id)
            now.append(f"member {member.name} is {member.state}")
    if (allocation := state.allocations.get(name)) is not None:
        home = state.members.get(allocation.member_id)
        where = home.name if home else allocation.member_id
        subjects.append(name)
        now.append(f"allocation {name} on {where} is {allocation.status}: {allocation.reason}")
    if (repair := state.repairs.get(name)) is not None:
        subjects.append(name)
        now.append(f"repair {name} is {repair.status}")
    return Asked(frozenset(subjects), tuple(now))


class Links:
    """Learns from events, oldest first, which ones belong to a story: the newest `most`."""

    def __init__(self, subjects: Collection[str], most: int) -> None:
        self._subjects = subjects
        self._causes: dict[int, int] = {}
        self._newest: deque[int] = deque(maxlen=most)
        self._count = 0
        self._open: set[int] = set()

    def learn(self, event: Event) -> None:
        """The next event."""
        number = event.number
        if event.cause:
            self._causes[number] = event.cause
        asked_for = any(is_about(event, subject) for subject in self._subjects)
        if asked_for or event.cause in self._open:
            self._newest.append(number)
            self._count += 1
            if asked_for or event.kind not in _ENDS:
                self._open.add(number)

    def story(self) -> tuple[frozenset[int], bool]:
        """Numbers of the story's events, with all that led to them; whether some are left out."""
        found: set[int] = set()
        for number in self._newest:
            while number and number not in found:
                found.add(number)
                number = self._causes.get(number, 0)
        return frozenset(found), len(self._newest) < self._count


def in_order(events: Iterable[Event]) -> list[tuple[Event, bool]]:
    """Events as a person reads them: each after its cause; whether that is the one just before it.

    What began without a cause comes in the order of time, each with all that followed from it.
    """
    known = {event.number: event for event in events}
    followers: dict[int, list[Event]] = {}
    for event in sorted(known.values(), key=lambda one: one.number):
        cause = event.cause if event.cause in known else 0
        followers.setdefault(cause, []).append(event)
    ordered: list[tuple[Event, bool]] = []
    waiting = list(reversed(followers.get(0, [])))
    while waiting:
        event = waiting.pop()
        above = ordered[-1][0].number if ordered else 0
        ordered.append((event, bool(event.cause) and event.cause == above))
        waiting.extend(reversed(followers.get(event.number, [])))
    return ordered
