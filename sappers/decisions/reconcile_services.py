"""What one member tells its Consul agent: its guests against what is registered. Pure.

Invariant: nothing is touched but what this very member registered for this very cluster: services
whose id and meta say so. Other members may share the Consul agent, and so may other programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from sappers.model.actions import Action, ReportStatus
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member
from sappers.model.service import (
    DeregisterService,
    RegisterService,
    ReportService,
    Service,
    ServiceChange,
    ServiceHealth,
    ServiceReading,
)

ID_PREFIX = "sappers-"
TAG = "sappers"
META_CLUSTER = "sappers_cluster"
META_ALLOCATION = "sappers_allocation"
META_WORKLOAD = "sappers_workload"
META_MEMBER = "sappers_member"
META_TERM = "sappers_term"
_NOTE_MAX = 500


class WantedServices(msgspec.Struct, frozen=True):
    """What should be registered for a member.

    Attributes:
        cluster_id, member_id: Whose services these are.
        readings: Every guest that is wanted, by service id.
        leaving: Notes on guests that are being stopped, by service id. They stay until they are
            gone, with a warning, so that they get no new requests; they are not registered anew.
    """

    cluster_id: str
    member_id: str
    readings: dict[str, ServiceReading]
    leaving: dict[str, str]


def service_id(allocation_id: str) -> str:
    """The id that an allocation's guest is registered with."""
    return f"{ID_PREFIX}{allocation_id}"


def wanted_services(state: ClusterState, me: Member, plan: Iterable[Action]) -> WantedServices:
    """What should be registered for a member.

    Args:
        state: This member's state; who is wanted and, by the last committed word, how it is.
        me: This member.
        plan: What it found out just now and reports: newer than the state, and all there is while
            nothing can be committed.
    """
    reports = {action.allocation_id: action for action in plan if isinstance(action, ReportStatus)}
    readings: dict[str, ServiceReading] = {}
    leaving: dict[str, str] = {}
    for allocation in state.allocations_on(me.id):
        status, reason = allocation.status, allocation.reason
        if report := reports.get(allocation.id):
            status, reason = report.status, report.reason
        if status.is_terminal:
            continue
        if allocation.wanted:
            health = (
                ServiceHealth.PASSING
                if status is AllocationStatus.HEALTHY
                else ServiceHealth.CRITICAL
            )
            service = _service(state, me, allocation)
            readings[service.id] = ServiceReading(service, health, _note(status, reason))
        else:
            leaving[service_id(allocation.id)] = "it is being stopped"
    return WantedServices(state.cluster_id, me.id, readings, leaving)


def reconcile_services(
    wanted: WantedServices, registered: Iterable[ServiceReading], *, repeat: bool
) -> tuple[ServiceChange, ...]:
    """The changes that make the Consul agent's list true; empty when it is.

    Args:
        wanted: What should be registered.
        registered: All that is registered at the Consul agent, by whomever.
        repeat: Report what has not changed too: checks turn critical without a word.
    """
    found = {one.service.id: one for one in registered if _is_ours(one.service, wanted)}
    changes: list[ServiceChange] = [
        DeregisterService(one, "no guest of this member owns it")
        for one in sorted(found.keys() - wanted.readings.keys() - wanted.leaving.keys())
    ]
    for one, reading in sorted(wanted.readings.items()):
        assert reading.health is not None, "wanted readings have a health"
        before = found.get(one)
        if before is None or before.service != reading.service or before.health is None:
            changes.append(RegisterService(reading))
            changes.append(ReportService(one, reading.health, reading.note))
        elif repeat or before != reading:
            changes.append(ReportService(one, reading.health, reading.note))
    for one, note in sorted(wanted.leaving.items()):
        if one in found and (repeat or found[one].health is not ServiceHealth.WARNING):
            changes.append(ReportService(one, ServiceHealth.WARNING, note))
    return tuple(changes)


def _is_ours(service: Service, wanted: WantedServices) -> bool:
    meta: Mapping[str, str] = service.meta
    return (
        service.id == service_id(meta.get(META_ALLOCATION, ""))
        and meta.get(META_CLUSTER) == wanted.cluster_id
        and meta.get(META_MEMBER) == wanted.member_id
    )


def _service(state: ClusterState, me: Member, allocation: Allocation) -> Service:
    workload = state.workloads.get(allocation.workload)
    return Service(
        id=service_id(allocation.id),
        name=workload.service_name if workload else allocation.workload,
        address=me.address,
        port=allocation.public_port or 0,
        tags=(TAG,),
        meta={
            META_CLUSTER: state.cluster_id,
            META_ALLOCATION: allocation.id,
            META_WORKLOAD: allocation.workload,
            META_MEMBER: me.id,
            META_TERM: str(allocation.placed_term),
        },
    )


def _note(status: AllocationStatus, reason: str) -> str:
    """One line; reasons may come from guests."""
    text = f"{status}: {reason}" if reason else str(status)
    return "".join(char if char.isprintable() else " " for char in text[:_NOTE_MAX])
