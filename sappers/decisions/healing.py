"""Which members are to be repaired, by which healer, and when a repair is over. Pure.

A repair is about a host whose agent died, or is suspected (`decisions.suspicion`). What the host's
guests were doing is placed elsewhere meanwhile (`reconcile_cluster`), which never waits for it.
Whether a member is restored is judged by gossip and by what is held against it; a healer's word
alone closes nothing but what cannot be reached. What must last for a time is counted as a leader
can believe it (`decisions.leader_time`).
"""

from __future__ import annotations

import hashlib

import msgspec

from sappers.decisions.leader_time import LeaderTime
from sappers.decisions.scheduler import NoPlacement, place
from sappers.decisions.suspicion import repair_is_due
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command, StopAllocation
from sappers.model.member import Member, MemberState
from sappers.model.repair import HEALER, HEALER_IMAGES, Finding, Repair, RepairStatus
from sappers.model.repair_commands import AssignHealer, CloseRepair, FailAttempt, OpenRepair
from sappers.model.suspicion import SuspicionSource
from sappers.model.workload import ImageReference, Workload

STAYS_UP_SECONDS = 5.0
LAST_WORD_SECONDS = 30.0
CLAIM_SECONDS = 150.0  # a guest boots for long under emulation
REPAIR_SECONDS = 240.0  # of a credential
ATTEMPTS_MAX = 3
RETRY_SECONDS = 5.0
GOSSIP_SECONDS = 30.0  # from a healer's last word until gossip must have seen the member
WITHOUT_ROOM_SECONDS = 300.0
# Repairs of one member within the time: then a person must look, for they mend nothing.
REPAIRS_MAX, REPAIRS_MAX_WITHIN_SECONDS = 3, 3600.0
HEALER_MEMORY_MIB = 256


def reconcile_repairs(state: ClusterState, time: LeaderTime) -> tuple[Command, ...]:
    """The commands that repairs need; empty when nothing is to do.

    Args:
        state: The leader's state, with what gossip says now.
        time: The leader's.
    """
    commands: list[Command] = []
    for _, repair in sorted(state.repairs.items()):
        if not repair.status.is_terminal:
            commands.extend(_reconcile_repair(state, repair, time))
    commands.extend(_open_repairs(state, time))
    commands.extend(_stop_idle_healers(state))
    return tuple(commands)


def repairs_of(state: ClusterState, member_id: str, since: float) -> tuple[Repair, ...]:
    """The member's repairs that were opened since then, oldest first."""
    found = [
        repair
        for repair in state.repairs.values()
        if repair.member_id == member_id and repair.opened_at >= since
    ]
    return tuple(sorted(found, key=lambda repair: (repair.opened_at, repair.id)))


def latest_repairs(state: ClusterState) -> dict[str, Repair]:
    """The last repair of each member that had one."""
    found: dict[str, Repair] = {}
    for repair in sorted(state.repairs.values(), key=lambda one: (one.opened_at, one.id)):
        found[repair.member_id] = repair
    return found


def repairs_exhausted(state: ClusterState, member: Member, since: float) -> bool:
    """Whether a member was repaired so often before a moment that a person must look at it."""
    return len(repairs_of(state, member.id, since - REPAIRS_MAX_WITHIN_SECONDS)) >= REPAIRS_MAX


def _open_repairs(state: ClusterState, time: LeaderTime) -> list[Command]:
    commands: list[Command] = []
    for _, member in sorted(state.members.items()):
        trouble = _trouble(state, member)
        if trouble is None or not _wants_repair(state, member, trouble, time):
            continue
        reason = f"{trouble.what} for {time.since(trouble.since):.0f} s{trouble.more}"
        repair_id = _repair_id(state, member, trouble)
        commands.append(OpenRepair(repair_id, member.id, reason, trouble.sources))
    return commands


class _Trouble(msgspec.Struct, frozen=True):
    """What a member may be repaired for, since when, and by whose word."""

    since: float
    sources: tuple[SuspicionSource, ...]
    what: str
    more: str = ""


def _trouble(state: ClusterState, member: Member) -> _Trouble | None:
    """A death, or while gossip has the member alive what else speaks against it."""
    suspicion = state.suspicion(member.id)
    sources = suspicion.sources if suspicion is not None else ()
    if member.state is MemberState.DEAD:
        by_gossip = (SuspicionSource.GOSSIP, *(s for s in sources if s != SuspicionSource.GOSSIP))
        also = f"; also suspected by {', '.join(by_gossip[1:])}" if by_gossip[1:] else ""
        return _Trouble(member.state_since, by_gossip, "dead", also)
    if suspicion is None or member.state is MemberState.LEFT:
        return None
    return _Trouble(suspicion.since, sources, "suspected", f": {suspicion.reason}")


def _repair_id(state: ClusterState, member: Member, trouble: _Trouble) -> str:
    """The same for the same trouble, by whatever clock it is looked at."""
    return _short_id("repair", state.cluster_id, member.id, trouble.since)


def _wants_repair(state: ClusterState, member: Member, trouble: _Trouble, time: LeaderTime) -> bool:
    """Whether the trouble has lasted long enough, and nobody has seen to it yet.

    A host that an operator has drained is the operator's, until it is used again.
    """
    cordon = state.cordons.get(member.id)
    if cordon is not None and cordon.drain:
        return False
    if state.open_repair(member.id) is not None or state.newest_guest_image(*HEALER_IMAGES) is None:
        return False
    if _repair_id(state, member, trouble) in state.repairs:
        return False
    last = latest_repairs(state).get(member.id)
    # One that was opened in the future says nothing: a clock was ahead.
    if last is not None and trouble.since <= last.opened_at <= time.now:
        return False
    recent = repairs_of(state, member.id, trouble.since - REPAIRS_MAX_WITHIN_SECONDS)
    return not repairs_exhausted(state, member, trouble.since) and repair_is_due(
        trouble.sources, time.since(trouble.since), len(recent)
    )


def _reconcile_repair(state: ClusterState, repair: Repair, time: LeaderTime) -> list[Command]:
    member = state.members.get(repair.member_id)
    if member is None or member.state is MemberState.LEFT:
        return [CloseRepair(repair.id, RepairStatus.MOVED, "the member left the cluster")]
    if member.state is MemberState.ALIVE and state.suspicion(member.id) is None:
        if _well_for(state, member, time) < _wait_for(repair, time):
            return []
        return [CloseRepair(repair.id, RepairStatus.RESTORED, _how_restored(repair, member))]
    if repair.finding is Finding.UNREACHABLE:
        text = f"{member.name}: {repair.trouble}; {_where_its_work_is(state, member)}"
        return [CloseRepair(repair.id, RepairStatus.MOVED, text)]
    if repair.finding is Finding.HOPELESS:
        text = f"{member.name}: {repair.trouble}"
        return [CloseRepair(repair.id, RepairStatus.FAILED, text)]
    if repair.status is not RepairStatus.OPEN:
        return _watch_attempt(state, repair, time)
    if repair.attempt >= ATTEMPTS_MAX:
        text = f"{member.name}: {repair.attempt} attempts failed, at last: {repair.trouble}"
        return [CloseRepair(repair.id, RepairStatus.FAILED, text)]
    waits = not time.is_over(repair.changed_at, repair.retry_at)
    if waits or _trouble(state, member) is None or _is_at_work(state, repair, time):
        return []
    return _assign(state, repair, member, time)


def _well_for(state: ClusterState, member: Member, time: LeaderTime) -> float:
    """For how many seconds gossip has had a member alive and nothing spoke against it."""
    dropped = state.suspicions.get(member.id)
    alive = time.since(member.state_since)
    return alive if dropped is None else min(alive, time.since(dropped.changed_at))


def _wait_for(repair: Repair, time: LeaderTime) -> float:
    """How long a member must be alive again; longer while its healer still looks at it."""
    looking = repair.status is RepairStatus.CLAIMED and repair.finding is None
    in_time = not time.is_over(repair.changed_at, repair.deadline)
    return LAST_WORD_SECONDS if looking and in_time else STAYS_UP_SECONDS


def _is_at_work(state: ClusterState, repair: Repair, time: LeaderTime) -> bool:
    """Whether an earlier healer may still be able to do something.

    The state machine asks the wall clock alone, which may have stepped past a credential's end.
    """
    now = time.now
    if repair.credential_until:
        given = repair.credential_until - REPAIR_SECONDS
        now = min(now, given + time.since(given))
    return bool(state.healers_at_work(repair, now))


def _how_restored(repair: Repair, member: Member) -> str:
    if repair.claimed_at and repair.allocation_id:
        return f"{member.name} is alive again; attempt {repair.attempt} repaired it"
    return f"{member.name} is alive again, without a healer's help"


def _where_its_work_is(state: ClusterState, member: Member) -> str:
    """What became of the guests that ran there."""
    lost = sorted(
        allocation.id
        for allocation in state.allocations_on(member.id)
        if allocation.status is AllocationStatus.LOST and allocation.workload in state.workloads
    )
    if not lost:
        return "nothing ran there that is wanted"
    return f"what ran there ({', '.join(lost)}) is placed elsewhere"


def _watch_attempt(state: ClusterState, repair: Repair, time: LeaderTime) -> list[Command]:
    """Nothing as long as the healer may still succeed; else the end of the attempt."""
    why = _why_failed(state, repair, time)
    if not why:
        return []
    retry_at = time.now + RETRY_SECONDS * 2.0 ** (repair.attempt - 1)
    return [FailAttempt(repair.id, repair.attempt, why, retry_at)]


def _why_failed(state: ClusterState, repair: Repair, time: LeaderTime) -> str:
    """Why nothing comes of the attempt any more, or empty."""
    healer = state.allocations.get(repair.allocation_id)
    if repair.finding is Finding.FAILED:
        return repair.trouble
    if repair.finding is Finding.RESTORED:
        if time.since(repair.changed_at) < GOSSIP_SECONDS:
            return ""
        wrong = _still_wrong(state, repair)
        return f"its healer says that it is restored, but {wrong}: {repair.trouble}"
    if healer is None:
        return "its healer is gone"
    if healer.status.is_terminal:
        return f"{healer.id} is {healer.status}: {healer.reason}"
    if not time.is_over(repair.changed_at, repair.deadline):
        return ""
    if repair.status is RepairStatus.CLAIMED:
        return f"{healer.id} is not done in time"
    return f"{healer.id} has not claimed its credential in time: {healer.reason or 'no reason'}"


def _still_wrong(state: ClusterState, repair: Repair) -> str:
    suspicion = state.suspicion(repair.member_id)
    if suspicion is None or SuspicionSource.GOSSIP in suspicion.sources:
        return "it is not alive"
    return suspicion.reason


def _assign(state: ClusterState, repair: Repair, member: Member, time: LeaderTime) -> list[Command]:
    image = state.newest_guest_image(*HEALER_IMAGES)
    if image is None:
        text = f"{member.name}: the cluster has no image {HEALER} any more"
        return [CloseRepair(repair.id, RepairStatus.FAILED, text)]
    attempt = repair.attempt + 1
    reference = ImageReference(image.name, image.digest)
    wanted = Workload(HEALER, reference, memory_mib=HEALER_MEMORY_MIB)
    chosen = place(state, wanted, avoid=repair.member_id)
    if isinstance(chosen, NoPlacement):
        if time.since(repair.changed_at) < WITHOUT_ROOM_SECONDS:
            return []
        text = f"{member.name}: no room for a healer: {chosen.reason}"
        return [CloseRepair(repair.id, RepairStatus.FAILED, text)]
    healer = Allocation(
        id=_short_id(HEALER, repair.id, attempt),
        workload=HEALER,
        revision=wanted.revision,
        image=reference,
        memory_mib=HEALER_MEMORY_MIB,
        member_id=chosen.member.id,
        placed_term=state.term,
        repair=repair.id,
        # Clones of a checkpoint would share what their SSH library drew before it was taken.
        cold=True,
    )
    return [AssignHealer(repair.id, attempt, healer, chosen.reason, time.now + CLAIM_SECONDS)]


def _stop_idle_healers(state: ClusterState) -> list[Command]:
    """A healer lives as long as its attempt."""
    at_work = {
        repair.allocation_id for repair in state.repairs.values() if not repair.status.is_terminal
    }
    return [
        StopAllocation(allocation.id, "its repair is over")
        for allocation in state.healers()
        if allocation.wanted and not allocation.status.is_terminal and allocation.id not in at_work
    ]


def _short_id(prefix: str, *parts: object) -> str:
    seed = "/".join(str(part) for part in parts)
    return f"{prefix}-{hashlib.sha256(seed.encode()).hexdigest()[:8]}"
