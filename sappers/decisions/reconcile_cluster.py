"""What the leader proposes: desired state against committed readings, as commands.

Pure, and safe to repeat: the same plan may be proposed twice, because every command is conditional
and allocation ids follow from the state they were decided on.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property

import msgspec

from sappers.decisions.fencing import may_run, places_free, surely_ended_of
from sappers.decisions.forgetting import plan_forgetting
from sappers.decisions.formats import may_join, plan_format
from sappers.decisions.healing import reconcile_repairs
from sappers.decisions.hub import plan_hub
from sappers.decisions.leader_time import LeaderTime
from sappers.decisions.scheduler import Placement, Room
from sappers.decisions.suspicion import reconcile_suspicions
from sappers.decisions.system_workloads import plan_system_workloads
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    Command,
    ForgetAllocation,
    PlaceAllocation,
    RegisterMember,
    ReportAllocation,
    SetMemberState,
    StopAllocation,
)
from sappers.model.limits import COUNT_MAX
from sappers.model.member import Member, MemberState
from sappers.model.observation import MemberObservation
from sappers.model.policy import FencingSettings
from sappers.model.repair_commands import OpenRepair
from sappers.model.workload import Workload

FORGET_AFTER_SECONDS = 600.0
# An agent that is upgraded or crashes looks like a dead host to gossip, while its guests go on.
LOST_AFTER_SECONDS = 10.0
RESCHEDULE_DELAY_SECONDS = 5.0
RESCHEDULE_DELAY_MAX_SECONDS = 300.0


def reconcile_cluster(
    state: ClusterState,
    observed: MemberObservation,
    now: float,
    fencing: FencingSettings = FencingSettings(),  # noqa: B008 - a frozen value
    *,
    steady_seconds: float = math.inf,
    forget_after_seconds: float = math.inf,
) -> tuple[Command, ...]:
    """The commands that bring the cluster closer to what is wanted; empty when nothing is to do.

    Args:
        state: The leader's state.
        observed: What the leader sees.
        now: Unix time in seconds.
        fencing: How long the leases of exclusive guests are.
        steady_seconds: See `LeaderTime`.
        forget_after_seconds: How long a member is gone before it is forgotten.
    """
    time = LeaderTime(now, steady_seconds)
    members = _reconcile_members(state, observed.gossip)
    state = _as_gossip_says(state, members, now)
    repairs = reconcile_repairs(state, time)
    repaired = {one.member_id for one in repairs if isinstance(one, OpenRepair)}
    return (
        *members,
        *plan_format(state, observed.gossip),
        *reconcile_suspicions(state, observed, time),
        *plan_hub(state, observed.hub.durable),
        *plan_system_workloads(state),
        *_report_lost(state, time),
        *_reconcile_workloads(_Plan(state, observed.surely_ended, time, fencing)),
        *repairs,
        *_forget_old(state, observed.surely_ended, time),
        *plan_forgetting(state, time, forget_after_seconds, repaired),
    )


def _as_gossip_says(state: ClusterState, commands: list[Command], now: float) -> ClusterState:
    """The state as it will be: nothing may be placed on a member that the same plan calls dead."""
    members = state.members
    for command in commands:
        match command:
            case RegisterMember(member=member):
                members = members.set(member.id, member)
            case SetMemberState(member_id=member_id, state=word):
                changed = msgspec.structs.replace(members[member_id], state=word, state_since=now)
                members = members.set(member_id, changed)
    return msgspec.structs.replace(state, members=members)


def _reconcile_members(state: ClusterState, gossip: tuple[Member, ...]) -> list[Command]:
    commands: list[Command] = []
    for seen in gossip:
        known = state.members.get(seen.id)
        if known is None:
            welcome = seen.id not in state.revoked and may_join(state, seen)
            if seen.state is MemberState.ALIVE and welcome:
                commands.append(RegisterMember(seen.lasting()))
            continue
        same_state = msgspec.structs.replace(
            seen.lasting(), state=known.state, state_since=known.state_since
        )
        if seen.state is MemberState.ALIVE and same_state != known:
            commands.append(RegisterMember(same_state))
        if seen.state is not known.state:
            commands.append(SetMemberState(seen.id, seen.state, "gossip says so"))
    return commands


def _gone_members(state: ClusterState, time: LeaderTime) -> dict[str, Member]:
    """Members that left, or that have been dead so long that no restart will bring them back."""
    return {
        member.id: member
        for member in state.members.values()
        if member.state is MemberState.LEFT
        or (
            member.state is MemberState.DEAD
            and time.since(member.state_since) >= LOST_AFTER_SECONDS
        )
    }


def _report_lost(state: ClusterState, time: LeaderTime) -> list[Command]:
    gone = _gone_members(state, time)
    lost = [one for member_id in gone for one in state.allocations_on(member_id)]
    return [
        ReportAllocation(
            allocation.id,
            AllocationStatus.LOST,
            f"its member {gone[allocation.member_id].name} is {gone[allocation.member_id].state}",
            allocation.restarts,
        )
        for allocation in sorted(lost, key=_id)
        if not allocation.status.is_terminal
    ]


class _Plan:
    """What all workloads of one plan share.

    Attributes:
        state: With what gossip says now, and without what this plan places.
        ended: Exclusive allocations whose guests have surely ended.
    """

    def __init__(
        self,
        state: ClusterState,
        ended: frozenset[str],
        time: LeaderTime,
        fencing: FencingSettings,
    ) -> None:
        self.state = state
        self.ended = ended
        self.time = time
        self.fencing = fencing
        self.gone = _gone_members(state, time)
        self.drained = {member for member, cordon in state.cordons.items() if cordon.drain}

    @cached_property
    def room(self) -> Room:
        """What members have to give; most plans give nothing away."""
        return Room(self.state)


def _reconcile_workloads(plan: _Plan) -> list[Command]:
    unwanted = [
        one
        for one in plan.state.allocations.values()
        # A healer is wanted as long as its repair says so.
        if one.wanted and not one.repair and one.workload not in plan.state.workloads
    ]
    commands: list[Command] = [
        StopAllocation(one.id, "its workload is wanted no more")
        for one in sorted(unwanted, key=_id)
    ]
    for _, workload in sorted(plan.state.workloads.items()):
        commands.extend(_reconcile_workload(plan, workload))
    return commands


def _reconcile_workload(plan: _Plan, workload: Workload) -> list[Command]:
    """One workload's commands; what is placed takes its room from the next one's."""
    copies = _Copies(plan, workload)
    # Who proposes more than an operator may ask for must not keep the leader planning for ever.
    missing = min(workload.count, COUNT_MAX) - len(copies.current)
    if workload.exclusive and missing > 0:
        missing = min(missing, places_free(plan.state, workload, plan.ended))
    commands: list[Command] = []
    blocked = False
    ended = surely_ended_of(plan.state, workload, plan.ended) if workload.exclusive else None
    if missing > 0 and _may_place_again(plan, workload):
        vacant = _vacant(plan.state, workload, copies)
        for slot in range(missing):
            chosen = plan.room.choose(workload)
            if chosen is None:
                blocked = True
                break
            replaces = vacant[slot] if slot < len(vacant) else ""
            number = len(copies.current) + slot
            allocation = _allocation(plan.state, workload, chosen, number, plan.fencing, replaces)
            commands.append(PlaceAllocation(allocation, chosen.reason, ended))
            plan.room.take(allocation)
    commands.extend(_stop_surplus(workload, copies.current))
    commands.extend(_stop_outdated(workload, copies, blocked=blocked))
    commands.extend(_stop_leaving(plan, workload, copies))
    return commands


class _Copies:
    """A workload's live copies, as far as they are wanted.

    Attributes:
        current: As they should be, and where they may stay.
        leaving: As they should be, but on a member that is drained.
        outdated: Of an earlier revision.
        ended: As they should be, but failed, lost, or about to be, in the order in which they did.
    """

    def __init__(self, plan: _Plan, workload: Workload) -> None:
        wanted = [a for a in plan.state.allocations_of(workload.name) if a.wanted]
        live: list[Allocation] = []
        ended: list[Allocation] = []
        for one in wanted:
            is_over = one.status.is_terminal or one.member_id in plan.gone
            (ended if is_over else live).append(one)
        right = [a for a in live if a.revision == workload.revision]
        self.current = [a for a in right if a.member_id not in plan.drained]
        self.leaving = [a for a in right if a.member_id in plan.drained]
        self.outdated = [a for a in live if a.revision != workload.revision]
        ended = [a for a in ended if a.revision == workload.revision]
        self.ended = sorted(ended, key=lambda a: (a.changed_at, a.id))
        healthy = sum(a.status is AllocationStatus.HEALTHY for a in self.current)
        self.lacking = max(0, workload.count - healthy)


def _allocation(
    state: ClusterState,
    workload: Workload,
    chosen: Placement,
    slot: int,
    fencing: FencingSettings,
    replaces: str,
) -> Allocation:
    return Allocation(
        id=_allocation_id(state, workload, slot),
        workload=workload.name,
        revision=workload.revision,
        image=workload.image,
        memory_mib=workload.memory_mib,
        member_id=chosen.member.id,
        placed_term=state.term,
        guest_port=workload.guest_port,
        host_port=chosen.host_port,
        cold=workload.cold,
        private=workload.private,
        role=workload.role,
        lease_seconds=fencing.lease_seconds if workload.exclusive else 0.0,
        replaces=replaces,
    )


def _vacant(state: ClusterState, workload: Workload, copies: _Copies) -> list[str]:
    """Allocations whose place a new one takes: they ended badly, or leave their member."""
    replaced = {a.replaces for a in state.allocations_of(workload.name)}
    return [a.id for a in (*copies.ended, *copies.leaving) if a.id not in replaced]


def _stop_surplus(workload: Workload, current: list[Allocation]) -> list[Command]:
    """The least healthy and newest go first."""
    keep_first = sorted(
        current, key=lambda a: (a.status is not AllocationStatus.HEALTHY, a.changed_at, a.id)
    )
    return [
        StopAllocation(a.id, f"{workload.count} are wanted")
        for a in sorted(keep_first[workload.count :], key=lambda a: a.id)
    ]


def _stop_outdated(workload: Workload, copies: _Copies, *, blocked: bool) -> list[Command]:
    """Old copies go when new ones are healthy, or at once where they take the new ones' room."""
    keep = 0 if blocked or workload.exclusive else copies.lacking
    return [StopAllocation(a.id, "its workload has changed") for a in copies.outdated[keep:]]


def _stop_leaving(plan: _Plan, workload: Workload, copies: _Copies) -> list[Command]:
    """What is on a drained member goes when others are healthy; it takes nobody's room.

    An exclusive copy goes first of all, if there is another place for it.
    """
    keep = copies.lacking
    if workload.exclusive and copies.leaving and plan.room.choose(workload) is not None:
        keep = 0
    return [StopAllocation(a.id, "its member is drained") for a in copies.leaving[keep:]]


def _may_place_again(plan: _Plan, workload: Workload) -> bool:
    """Whether a new allocation may follow on those that failed, the later the more did: no storms.

    By the leader's own time: the member that reported a failure may have a clock that is ahead.
    """
    since = [
        plan.time.since(a.changed_at)
        for a in plan.state.allocations_of(workload.name)
        if a.revision == workload.revision and a.status is AllocationStatus.FAILED
    ]
    delay = RESCHEDULE_DELAY_SECONDS * 2.0 ** min(len(since) - 1, 10)
    return not since or min(since) >= min(delay, RESCHEDULE_DELAY_MAX_SECONDS)


def _allocation_id(state: ClusterState, workload: Workload, slot: int) -> str:
    seed = f"{state.cluster_id}/{workload.name}/{workload.revision}/{state.index}/{slot}"
    return f"{workload.name}-{hashlib.sha256(seed.encode()).hexdigest()[:8]}"


def _forget_old(state: ClusterState, ended: frozenset[str], time: LeaderTime) -> list[Command]:
    """Nothing whose guest may still run is forgotten, whatever the wall clock says."""
    old = [
        allocation
        for allocation in state.allocations.values()
        if allocation.status.is_terminal
        and time.since(allocation.changed_at) > FORGET_AFTER_SECONDS
        and not may_run(allocation, ended)
    ]
    return [ForgetAllocation(allocation.id) for allocation in sorted(old, key=_id)]


def _id(allocation: Allocation) -> str:
    return allocation.id
