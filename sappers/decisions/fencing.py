"""Exclusive guests: when one may start, and when it is certain that another has ended. Pure.

Invariant: of an exclusive workload never more than `count` guests run at one moment.

It rests on a lease. A member may run an exclusive guest for `lease` seconds from the moment at
which it asked the quorum, if the answer shows the allocation as live; a watchdog beside the guest
ends it when they are over. An allocation that ended badly is shown as live to nobody who asks after
that was committed. So its guest is gone `lease` and the watchdog's own time later, by the clock of
its member, and whoever has seen the commit waits longer than that by any clock that drifts no more
than `CLOCK_DRIFT_MAX`. docs/fencing.md has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member, MemberState
from sappers.model.workload import Workload

# A clock that is disciplined by NTP drifts by 0.05 % at most, a bad one by 0.02 % without it.
CLOCK_DRIFT_MAX = 0.01
# From the end of a lease until the watchdog has looked and the killed guest is gone.
WATCHDOG_SECONDS = 3.0
# So long before its lease ends the agent begins to stop a guest in order.
STOP_BEFORE_SECONDS = 3.0
RENEWALS_PER_LEASE = 5


def certain_after_seconds(lease_seconds: float) -> float:
    """How long after an allocation's bad end was seen committed its guest has surely ended."""
    slowest, fastest = 1 - CLOCK_DRIFT_MAX, 1 + CLOCK_DRIFT_MAX
    return (lease_seconds + WATCHDOG_SECONDS) * fastest / slowest


def renewed_leases(state: ClusterState, member_id: str, asked_at: float) -> Mapping[str, float]:
    """Until when each exclusive guest of a member may run, by allocation id.

    Args:
        state: At least as new as the quorum's answer.
        member_id: This member.
        asked_at: Seconds of this host's clock before the quorum was asked; the answer is in these.
    """
    return {
        allocation.id: asked_at + allocation.lease_seconds
        for allocation in state.allocations_on(member_id)
        if allocation.is_exclusive and not allocation.status.is_terminal
    }


def surely_ended(
    state: ClusterState, first_seen: Mapping[str, float], now: float
) -> frozenset[str]:
    """Exclusive allocations that ended badly, and whose guests have surely ended.

    Args:
        state: This member's.
        first_seen: When this member first saw each of them ended, by its own clock.
        now: Of the same clock.
    """
    return frozenset(
        allocation_id
        for allocation_id, seen_at in first_seen.items()
        if (allocation := state.allocations.get(allocation_id))
        and now - seen_at >= certain_after_seconds(allocation.lease_seconds)
    )


def ended_badly(state: ClusterState) -> frozenset[str]:
    """Exclusive allocations of which only time or a fence tells that their guests are gone."""
    return frozenset(
        allocation.id
        for allocation in state.allocations.values()
        if allocation.is_exclusive
        and allocation.status in (AllocationStatus.LOST, AllocationStatus.FAILED)
        and not allocation.fenced
    )


def may_run(allocation: Allocation, ended: Collection[str]) -> bool:
    """Whether the guest of an allocation may still be running somewhere, for all that is known."""
    if not allocation.status.is_terminal:
        return True
    if not allocation.is_exclusive or allocation.status is AllocationStatus.STOPPED:
        return False  # its member saw it gone
    return not allocation.fenced and allocation.id not in ended


def places_free(state: ClusterState, workload: Workload, ended: Collection[str]) -> int:
    """How many more guests of an exclusive workload may start now."""
    running = sum(may_run(one, ended) for one in state.allocations_of(workload.name))
    return max(0, workload.count - running)


def surely_ended_of(
    state: ClusterState, workload: Workload, ended: Collection[str]
) -> tuple[str, ...]:
    """Which of `ended` are the workload's, sorted: what a placement of it rests on."""
    return tuple(sorted(one.id for one in state.allocations_of(workload.name) if one.id in ended))


def members_to_fence(state: ClusterState, ended: Collection[str]) -> tuple[Member, ...]:
    """Dead members whose hosts hold up exclusive workloads until they are without power, by id."""
    waiting = {
        allocation.member_id
        for allocation in state.allocations.values()
        if allocation.is_exclusive
        and allocation.status is AllocationStatus.LOST
        and may_run(allocation, ended)
    }
    return tuple(
        member
        for _, member in sorted(state.members.items())
        if member.id in waiting and member.state is MemberState.DEAD
    )
