"""Which members are suspected, by whom, and for how long before a repair follows. Pure.

Invariant: a suspicion is raised and dropped on readings alone. Who cannot read (a leader that has
just begun, one whose hub is away) neither raises nor drops what others saw. Between the silence
that raises a suspicion and the word that drops it lies room, and between two changes time: a
member that comes and goes does not fill the log.
"""

from __future__ import annotations

from collections.abc import Mapping

from sappers.decisions.leader_time import LeaderTime
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command, SetSuspicion
from sappers.model.member import Member, MemberState
from sappers.model.observation import MemberObservation, RaftRole
from sappers.model.suspicion import PulseReading, SuspicionSource

PULSE_SECONDS = 3.0  # between two of an agent
GUESTS_SILENT_SECONDS = 10.0  # of a guest, for a pulse to call it silent
SILENT_SECONDS = 12.0
HEARD_SECONDS = 4.5
SETTLED_SECONDS = 5.0  # between two changes of one suspicion
# Of which a repair follows: gossip asks many members, the others are one member's view. Longer than
# allocations wait before they are placed elsewhere: a host that only boots anew, or whose agent
# systemd starts again, needs no healer.
SURE_SECONDS = 15.0
ALONE_SECONDS = 60.0


def reconcile_suspicions(
    state: ClusterState, observed: MemberObservation, time: LeaderTime
) -> tuple[Command, ...]:
    """What is to be recorded of suspicions; empty when nothing has changed.

    Args:
        state: The leader's state, with what gossip says now.
        observed: What the leader sees.
        time: The leader's.
    """
    commands: list[Command] = []
    for _, member in sorted(state.members.items()):
        before = state.suspicions.get(member.id)
        held = before.sources if before is not None else ()
        readings = _readings(state, observed, member)
        sources = tuple(
            source
            for source in SuspicionSource
            if (readings[source] if readings[source] is not None else source in held)
        )
        if sources == held:
            continue
        # Gossip's own word has waited enough.
        by_gossip = (SuspicionSource.GOSSIP in sources) != (SuspicionSource.GOSSIP in held)
        settles = before is not None and time.since(before.changed_at) < SETTLED_SECONDS
        if settles and not by_gossip:
            continue
        commands.append(SetSuspicion(member.id, sources, _reason(observed, member, sources)))
    return tuple(commands)


def repair_is_due(sources: tuple[SuspicionSource, ...], seconds: float, times: int = 0) -> bool:
    """Whether a suspicion of so many seconds is enough for a repair.

    Args:
        sources: What is held against the member.
        seconds: For how long.
        times: How often it was repaired of late; each doubles the wait.
    """
    if not sources:
        return False
    sure = SuspicionSource.GOSSIP in sources or len(sources) > 1
    return seconds >= (SURE_SECONDS if sure else ALONE_SECONDS) * 2.0**times


def _readings(
    state: ClusterState, observed: MemberObservation, member: Member
) -> Mapping[SuspicionSource, bool | None]:
    """Whether each source speaks against the member now; None where it says neither."""
    if member.state is MemberState.LEFT:
        return dict.fromkeys(SuspicionSource, False)
    pulse = observed.pulses.get(member.id)
    return {
        SuspicionSource.GOSSIP: member.state is MemberState.DEAD,
        SuspicionSource.RAFT: _raft(state, observed, member),
        SuspicionSource.PULSE: None if pulse is None else _between(pulse.age_seconds),
        SuspicionSource.GUESTS: None if pulse is None else _guests(pulse),
    }


def _raft(state: ClusterState, observed: MemberObservation, member: Member) -> bool | None:
    voters = observed.raft.electorate or state.electorate
    if member.id not in voters:
        return False
    if observed.raft.role is not RaftRole.LEADER:
        return None
    if (silent := observed.raft.unheard.get(member.id)) is not None:
        return True if silent >= SILENT_SECONDS else None
    # The library counts from the election: a new leader has heard nobody yet.
    return None if observed.leading_seconds < SILENT_SECONDS else False


def _guests(reading: PulseReading) -> bool | None:
    """One guest alone may be its own trouble; an old pulse says nothing of guests."""
    if reading.age_seconds > HEARD_SECONDS:
        return None
    guests, silent = reading.pulse.guests, reading.pulse.silent
    if guests >= 2 and silent == guests:
        return True
    return None if silent and silent == guests else False


def _between(silent_seconds: float) -> bool | None:
    if silent_seconds >= SILENT_SECONDS:
        return True
    return False if silent_seconds <= HEARD_SECONDS else None


def _reason(
    observed: MemberObservation, member: Member, sources: tuple[SuspicionSource, ...]
) -> str:
    return "; ".join(_words(observed, member, source) for source in sources)


def _words(observed: MemberObservation, member: Member, source: SuspicionSource) -> str:
    pulse = observed.pulses.get(member.id)
    match source:
        case SuspicionSource.GOSSIP:
            return "gossip has it dead"
        case SuspicionSource.RAFT:
            silent = observed.raft.unheard.get(member.id)
            return "Raft does not hear it" + (f" for {silent} s" if silent is not None else "")
        case SuspicionSource.PULSE:
            silent_for = f" for {pulse.age_seconds:.0f} s" if pulse is not None else ""
            return f"its agent gives no pulse{silent_for}"
        case SuspicionSource.GUESTS:
            return "all its guests are silent at once"
