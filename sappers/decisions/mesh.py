"""Which proxies and intentions the declared links ask for, and which ports they have. Pure.

Invariants: one allow for each link that a workload declares and none beyond, a deny for everybody
else; nothing that somebody else wrote into Consul is touched.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from sappers.model.allocation import Allocation
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member
from sappers.model.mesh import (
    ANYBODY,
    Intention,
    IntentionChange,
    IntentionPlan,
    IntentionReading,
    MeshPlan,
    MeshPorts,
    MeshProxy,
    ProxyToken,
    RemoveIntention,
    SetIntention,
    Upstream,
)
from sappers.model.workload import Workload

# Consul's own range for sidecars begins there; both end before ports that kernels give out.
PUBLIC_PORTS = range(21_000, 22_000)
LINK_PORTS = range(22_000, 32_000)
LOOPBACK = "127.0.0.1"  # the only address of the host's loopback that leads there from a guest


def linked_service(state: ClusterState, link: str) -> str:
    """The service that a link leads to: a workload's, or one that is called so itself."""
    workload = state.workloads.get(link)
    return workload.service_name if workload else link


def plan_mesh(state: ClusterState, me: Member, ports: Mapping[str, MeshPorts]) -> MeshPlan:
    """The proxies that should run on a member.

    A guest has one if somebody is linked to its service, or if it is linked to a service that has a
    port itself; other links are for messages alone.

    Args:
        state: This member's, once it has caught up.
        me: This member.
        ports: Of this member's allocations; one that lacks there waits.
    """
    services = _Services(state)
    proxies, staying = [], set()
    for allocation in state.allocations_on(me.id):
        workload, own = state.workloads.get(allocation.workload), ports.get(allocation.id)
        if allocation.status.is_terminal or allocation.repair:
            continue
        if not allocation.wanted:
            staying.add(allocation.id)
        elif workload is not None and own is not None:
            lets_in = services.lets_in(workload, allocation) and own.public
            proxy = MeshProxy(
                cluster_id=state.cluster_id,
                member_id=me.id,
                allocation_id=allocation.id,
                term=allocation.placed_term,
                service=workload.service_name,
                address=me.address,
                port=own.public if lets_in else 0,
                service_address=_address(allocation, me) if lets_in else "",
                service_port=(allocation.host_port or 0) if lets_in else 0,
                upstreams=tuple(
                    Upstream(service, own.links[link])
                    for link, service in services.called_by(workload)
                    if link in own.links
                ),
            )
            if proxy.port or proxy.upstreams:
                proxies.append(proxy)
    return MeshPlan(state.cluster_id, me.id, tuple(proxies), frozenset(staying))


def assign_ports(
    state: ClusterState,
    me: Member,
    before: Mapping[str, MeshPorts],
    is_free: Callable[[str, int], bool],
) -> Mapping[str, MeshPorts]:
    """The ports of this member's allocations; what one has it keeps until it is over.

    A guest is told the ports of its links when it starts, whether there is anybody behind them yet
    or not, so each link has one. Where there is none left, it waits until one is given back.

    Args:
        state: This member's.
        me: This member.
        before: As it was; also of allocations that are over by now.
        is_free: Whether nothing else on the host has a port of an address.
    """
    services = _Services(state)
    mine = [a for a in state.allocations_on(me.id) if not (a.status.is_terminal or a.repair)]
    kept = {a.id: before[a.id] for a in mine if a.id in before}
    taken = {a.host_port for a in mine if a.host_port is not None}
    taken |= {port for one in kept.values() for port in (one.public, *one.links.values())}

    def choose(name: str, address: str, of: range) -> int:
        free = (port for port in _from(name, of) if port not in taken and is_free(address, port))
        port = next(free, 0)
        taken.add(port)
        return port

    for allocation in mine:
        workload = state.workloads.get(allocation.workload)
        if workload is None:
            continue
        own = kept.get(allocation.id, MeshPorts())
        public, links = own.public, dict(own.links)
        if not public and services.lets_in(workload, allocation):
            public = choose(allocation.id, me.address, PUBLIC_PORTS)
        for link in workload.links:
            if not links.get(link):
                links[link] = choose(f"{allocation.id} {link}", LOOPBACK, LINK_PORTS)
        if public or links:
            kept[allocation.id] = MeshPorts(public, {k: port for k, port in links.items() if port})
    return kept


def _from(name: str, of: range) -> Iterator[int]:
    """All of a range, from a place of its own for each name: what was just given back may rest."""
    start = zlib.crc32(name.encode()) % len(of)
    yield from of[start:]
    yield from of[:start]


def _address(allocation: Allocation, me: Member) -> str:
    """Where a guest's port is published."""
    return LOOPBACK if allocation.private else me.address


class _Services:
    """Who lets others in, and whom each calls.

    Attributes:
        linked: Services that some workload is linked to.
    """

    def __init__(self, state: ClusterState) -> None:
        workloads = state.workloads.values()
        self._state = state
        self._served = {one.service_name for one in workloads if one.guest_port is not None}
        self.linked = {linked_service(state, link) for one in workloads for link in one.links}

    def lets_in(self, workload: Workload, allocation: Allocation) -> bool:
        """Whether somebody may call a guest, at a port that it has."""
        return workload.service_name in self.linked and allocation.host_port is not None

    def called_by(self, workload: Workload) -> tuple[tuple[str, str], ...]:
        """Links of a workload to services with a port, and these services."""
        named = ((link, linked_service(self._state, link)) for link in workload.links)
        return tuple((link, service) for link, service in named if service in self._served)


# -- intentions --------------------------------------------------------------------------------


def keeps_intentions(state: ClusterState, me_id: str, leader_id: str | None) -> bool:
    """Whether this member, which uses Consul, writes what is true for the whole cluster.

    The leader does. Where its host has no Consul, as its having no gateway shows, one of the others
    does, which all of them agree on.
    """
    if leader_id is None or me_id == leader_id:
        return me_id == leader_id
    with_consul = {one.id: one for one in state.living_members() if one.ports.gateway}
    if leader_id in with_consul:
        return False
    voters = [one for one in with_consul if one in state.electorate]
    return me_id == min(voters or with_consul, default="")


def mark_of(cluster_id: str) -> str:
    """What tells this cluster's intentions and tokens from others."""
    return f"sappers {cluster_id}"


def wanted_intentions(state: ClusterState) -> frozenset[Intention]:
    """An allow for each link, and a deny for everybody else, for each service that is linked to."""
    allowed = {
        Intention(workload.service_name, linked_service(state, link), "allow")
        for workload in state.workloads.values()
        for link in workload.links
    }
    return frozenset(
        allowed | {Intention(ANYBODY, service, "deny") for service in _Services(state).linked}
    )


def reconcile_intentions(state: ClusterState, found: Iterable[IntentionReading]) -> IntentionPlan:
    """What makes Consul's intentions those that are wanted.

    Args:
        state: The leader's.
        found: All that Consul has, by whomever.
    """
    mark = mark_of(state.cluster_id)
    known = {(one.source, one.destination): one for one in found}
    wanted = wanted_intentions(state)
    changes: list[IntentionChange] = []
    conflicts = []
    # Denies come first, and go last: nothing is open in between.
    for intention in sorted(wanted, key=lambda one: (one.action == "allow", one)):
        there = known.get((intention.source, intention.destination))
        if there is None:
            changes.append(SetIntention(intention, mark))
        elif there.action == intention.action:
            continue
        elif there.mark == mark:
            changes.append(SetIntention(intention, mark, there.id))
        else:
            conflicts.append(
                f"Consul's intention {there.source} => {there.destination} is somebody else's and "
                f"says {there.action or 'something else'}, the links say {intention.action}"
            )
    pairs = {(one.source, one.destination) for one in wanted}
    for pair, there in sorted(known.items(), key=lambda item: (item[1].action == "deny", item[0])):
        if there.mark == mark and pair not in pairs:
            changes.append(RemoveIntention(there))
    return IntentionPlan(tuple(changes), tuple(conflicts))


# -- tokens ------------------------------------------------------------------------------------


def token_mark(cluster_id: str, allocation_id: str, service: str) -> str:
    """The description of the token of an allocation's proxy."""
    return f"{mark_of(cluster_id)} {allocation_id} {service}"


def stale_tokens(state: ClusterState, found: Iterable[ProxyToken]) -> tuple[ProxyToken, ...]:
    """Tokens of this cluster whose proxy should run no more, or speaks for another service now.

    Members make them, and the leader takes them back: also those of members that are gone.
    """
    services = _Services(state)
    return tuple(token for token in found if _is_stale(state, services, token.mark))


def _is_stale(state: ClusterState, services: _Services, mark: str) -> bool:
    head = f"{mark_of(state.cluster_id)} "
    if not state.cluster_id or not mark.startswith(head):
        return False
    allocation_id, _, service = mark.removeprefix(head).partition(" ")
    allocation = state.allocations.get(allocation_id)
    if allocation is None or allocation.status.is_terminal:
        return True
    workload = state.workloads.get(allocation.workload)
    if not allocation.wanted or workload is None:
        return False  # what it has open may end by itself
    takes_part = services.lets_in(workload, allocation) or services.called_by(workload)
    return workload.service_name != service or not takes_part
