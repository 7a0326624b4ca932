"""Which routes a gateway has: workloads of the state, with those guests that Consul calls healthy.

The state says which services there are, so that a service without a healthy guest (503) differs
from one that nobody has heard of (404). It also takes guests out that are to stop. That is
committed before they are stopped, so requests go elsewhere first, also while Consul is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.route import Backend, Route


def choose_routes(
    state: ClusterState, passing: Mapping[str, Sequence[Backend]], before: Sequence[Route]
) -> tuple[Route, ...]:
    """The routes, by name of the service.

    Args:
        state: This member's replica, once it has caught up.
        passing: Guests that pass their checks by Consul's word, by service; services that it has
            not spoken of lack.
        before: The routes so far.
    """
    known = {route.service: route.backends for route in before}
    return tuple(
        Route(service, _backends(state, passing.get(service), known.get(service, ())))
        for service in routed_services(state)
    )


def _backends(
    state: ClusterState, passing: Sequence[Backend] | None, before: Sequence[Backend]
) -> tuple[Backend, ...]:
    """Those that pass. Where Consul leaves none, or is silent, those that were routed to before:
    a Consul that restarts or lost its data must not end what the cluster itself knows as healthy.
    """
    found = {one.id: one for one in passing or () if _may_serve(state, one)}
    if not found:
        silent = passing is None
        found = {
            one.id: one
            for one in before
            if (silent and _may_serve(state, one)) or _is_healthy(state, one)
        }
    return tuple(sorted(found.values()))


def routed_services(state: ClusterState) -> tuple[str, ...]:
    """Names of the services that have a port to send requests to, sorted."""
    return tuple(
        sorted(
            {
                one.service_name
                for one in state.workloads.values()
                if one.guest_port is not None and not one.private
            }
        )
    )


def _may_serve(state: ClusterState, backend: Backend) -> bool:
    """Whether nothing is committed that ends this guest; one that the replica knows not stays."""
    allocation = state.allocations.get(backend.id)
    return _is_there(state, backend) and (
        allocation is None or (allocation.wanted and not allocation.status.is_terminal)
    )


def _is_there(state: ClusterState, backend: Backend) -> bool:
    """Whether it is where the cluster put it, or at least on a member: anybody may write to a
    Consul without access control.
    """
    allocation = state.allocations.get(backend.id)
    if allocation is None:
        return any(member.address == backend.address for member in state.members.values())
    member = state.members.get(allocation.member_id)
    return (
        member is not None
        and backend.address == member.address
        and backend.port == allocation.public_port
    )


def _is_healthy(state: ClusterState, backend: Backend) -> bool:
    allocation = state.allocations.get(backend.id)
    return (
        allocation is not None
        and allocation.wanted
        and _is_there(state, backend)
        and allocation.status is AllocationStatus.HEALTHY
    )
