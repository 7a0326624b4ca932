from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.mesh import (
    LINK_PORTS,
    PUBLIC_PORTS,
    assign_ports,
    keeps_intentions,
    mark_of,
    plan_mesh,
    reconcile_intentions,
    stale_tokens,
    token_mark,
    wanted_intentions,
)
from sappers.decisions.reconcile_services import wanted_services
from sappers.decisions.routing import routed_services
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Ports
from sappers.model.mesh import (
    ANYBODY,
    Intention,
    IntentionChange,
    IntentionReading,
    MeshPorts,
    ProxyToken,
    RemoveIntention,
    SetIntention,
    Upstream,
)
from sappers.model.workload import Workload
from tests.unit.worlds import allocation as any_allocation
from tests.unit.worlds import founded, member, with_allocations, workload

ME = member(1)
NAMES = ("a", "b", "c", "d")


def allocation(name: str, number: int = 1, **changes: object) -> Allocation:
    made = any_allocation(
        f"{name}-{number:08x}",
        workload=name,
        guest_port=8080,
        host_port=8000 + number,
        status=AllocationStatus.HEALTHY,
    )
    return msgspec.structs.replace(made, **changes)


def world(*workloads: Workload, allocations: tuple[Allocation, ...] = ()) -> ClusterState:
    state = with_allocations(founded(), *allocations)
    table = state.workloads.update({one.name: one for one in workloads})
    return msgspec.structs.replace(state, workloads=table)


def shop_and_db(**changes: object) -> ClusterState:
    return world(
        workload("db"),
        workload("shop", links=("db",)),
        allocations=(allocation("db", 1, **changes), allocation("shop", 2)),
    )


def any_port(_: str, __: int) -> bool:
    return True


def ports_of(state: ClusterState) -> dict[str, MeshPorts]:
    return dict(assign_ports(state, ME, {}, any_port))


def test_who_is_linked_to_lets_in_and_who_links_has_a_way_out() -> None:
    state = shop_and_db()
    ports = ports_of(state)
    db, shop = plan_mesh(state, ME, ports).proxies
    assert (db.service, db.port) == ("db", ports["db-00000001"].public)
    assert (db.service_address, db.service_port) == (ME.address, 8001)
    assert db.upstreams == ()
    assert (shop.service, shop.port) == ("shop", 0)
    assert shop.upstreams == (Upstream("db", ports["shop-00000002"].links["db"]),)


def test_a_private_guest_is_reached_by_its_proxy_alone() -> None:
    state = shop_and_db(private=True)
    private = workload("db", private=True)
    state = msgspec.structs.replace(state, workloads=state.workloads.set("db", private))
    db, _ = plan_mesh(state, ME, ports_of(state)).proxies
    assert (db.address, db.service_address, db.service_port) == (ME.address, "127.0.0.1", 8001)
    readings = wanted_services(state, ME, ()).readings
    assert readings["sappers-db-00000001"].service.port == 0
    assert routed_services(state) == ("shop",)


def test_a_link_by_the_name_of_a_workload_or_of_its_service_is_the_same() -> None:
    for link in ("db", "postgres"):
        state = world(
            workload("db", service="postgres"),
            workload("shop", links=(link,)),
            allocations=(allocation("shop"),),
        )
        (shop,) = plan_mesh(state, ME, ports_of(state)).proxies
        assert [one.service for one in shop.upstreams] == ["postgres"]
        assert Intention("shop", "postgres", "allow") in wanted_intentions(state)


def test_links_for_messages_alone_cost_no_proxy_but_have_a_port_to_be_told() -> None:
    state = world(
        workload("worker", guest_port=None),
        workload("shop", links=("worker", "later")),
        allocations=(allocation("shop"), allocation("worker", 2, guest_port=None, host_port=None)),
    )
    ports = ports_of(state)
    assert plan_mesh(state, ME, ports).proxies == ()
    assert ports.keys() == {"shop-00000001"}
    assert ports["shop-00000001"].links.keys() == {"worker", "later"}


def test_what_is_being_stopped_keeps_its_proxy_and_what_is_over_does_not() -> None:
    plan = plan_mesh(shop_and_db(wanted=False), ME, ports_of(shop_and_db()))
    assert plan.staying == {"db-00000001"}
    assert [one.service for one in plan.proxies] == ["shop"]
    over = shop_and_db(wanted=False, status=AllocationStatus.STOPPED)
    assert plan_mesh(over, ME, ports_of(shop_and_db())).staying == frozenset()


def test_another_members_guests_are_not_ours() -> None:
    state = shop_and_db(member_id="m2")
    assert [one.service for one in plan_mesh(state, ME, ports_of(state)).proxies] == ["shop"]


links = st.lists(st.sampled_from((*NAMES, "elsewhere")), unique=True).map(tuple)
workloads = st.lists(
    st.builds(
        workload,
        st.sampled_from(NAMES),
        links=links,
        service=st.sampled_from(("", "s")),
        guest_port=st.sampled_from((None, 80)),
    ),
    unique_by=lambda one: one.name,
)


@st.composite
def worlds(draw: st.DrawFn) -> ClusterState:
    made = draw(workloads)
    statuses = st.sampled_from((AllocationStatus.HEALTHY, AllocationStatus.STOPPED))
    allocations = [
        allocation(
            one.name,
            number * 10 + copy,
            wanted=draw(st.booleans()),
            status=draw(statuses),
            host_port=draw(st.sampled_from((None, PUBLIC_PORTS[number * 10 + copy]))),
        )
        for number, one in enumerate(made)
        for copy in range(draw(st.integers(0, 3)))
    ]
    return world(*made, allocations=tuple(allocations))


@given(worlds(), worlds())
def test_ports_are_nobody_elses_and_stay(before: ClusterState, after: ClusterState) -> None:
    first = assign_ports(before, ME, {}, any_port)
    assert assign_ports(before, ME, first, any_port) == first
    second = assign_ports(after, ME, first, any_port)
    used = [p for one in second.values() for p in (one.public, *one.links.values()) if p]
    assert len(used) == len(set(used))
    assert set(used) <= {*PUBLIC_PORTS, *LINK_PORTS}
    for one in first.keys() & second.keys():
        assert first[one].links.items() <= second[one].links.items()
        assert first[one].public in (0, second[one].public)
    alive = {a.id for a in after.allocations.values() if not a.status.is_terminal}
    assert second.keys() <= alive
    fresh = assign_ports(after, ME, {}, any_port)
    published = {a.host_port for a in after.allocations_on(ME.id) if a.id in alive}
    assert not published & {one.public for one in fresh.values()}


def test_a_port_that_something_else_has_is_passed_over() -> None:
    state = shop_and_db()
    first = ports_of(state)
    taken = {first["db-00000001"].public, first["shop-00000002"].links["db"]}
    second = assign_ports(state, ME, {}, lambda _, port: port not in taken)
    assert not taken & {second["db-00000001"].public, second["shop-00000002"].links["db"]}


def after_changes(
    found: list[IntentionReading], changes: tuple[IntentionChange, ...]
) -> list[IntentionReading]:
    """What Consul has after changes."""
    table = {(one.source, one.destination): one for one in found}
    for change in changes:
        match change:
            case SetIntention(intention=one, mark=mark, id=known):
                assert known == (table[one.source, one.destination].id if known else "")
                table[one.source, one.destination] = IntentionReading(
                    one.source, one.destination, one.action, mark, known or "new"
                )
            case RemoveIntention(reading=one):
                del table[one.source, one.destination]
    return list(table.values())


def test_one_member_keeps_the_intentions_the_leader_where_it_has_consul() -> None:
    state = founded(3)
    ids = sorted(state.members)

    def keepers(leader: str | None, *without: str) -> list[str]:
        members = state.members
        for one in ids:
            ports = Ports(gateway=0 if one in without else 8080)
            members = members.set(one, msgspec.structs.replace(members[one], ports=ports))
        now = msgspec.structs.replace(state, members=members)
        return [one for one in ids if one not in without and keeps_intentions(now, one, leader)]

    assert keepers(ids[1]) == [ids[1]]
    assert keepers(ids[0], ids[0]) == [ids[1]]
    assert keepers(ids[0], ids[0], ids[1]) == [ids[2]]
    assert keepers(None) == []


MARK = mark_of(founded().cluster_id)
readings = st.lists(
    st.builds(
        IntentionReading,
        st.sampled_from((*NAMES, "s", ANYBODY)),
        st.sampled_from((*NAMES, "s", "elsewhere")),
        st.sampled_from(("allow", "deny", "")),
        st.sampled_from((MARK, "", mark_of("another"))),
        st.uuids().map(str),
    ),
    unique_by=lambda one: (one.source, one.destination),
)


@given(worlds(), readings)
def test_intentions_become_the_links_and_strangers_stay(
    state: ClusterState, found: list[IntentionReading]
) -> None:
    plan = reconcile_intentions(state, found)
    after = after_changes(found, plan.changes)
    assert reconcile_intentions(state, after).changes == ()
    assert [one for one in after if one.mark != MARK] == [o for o in found if o.mark != MARK]
    foreign = {(one.source, one.destination): one.action for one in found if one.mark != MARK}
    said = {(one.source, one.destination): one.action for one in after}
    for one in wanted_intentions(state):
        pair = (one.source, one.destination)
        assert said[pair] == foreign.get(pair, one.action)
    assert len(plan.conflicts) == sum(
        foreign.get((one.source, one.destination), one.action) != one.action
        for one in wanted_intentions(state)
    )
    allowed = {pair for pair, action in said.items() if action == "allow" and pair not in foreign}
    assert allowed <= {
        (one.source, one.destination) for one in wanted_intentions(state) if one.action == "allow"
    }


@given(worlds(), readings)
def test_at_no_moment_is_anything_open_that_neither_was_nor_shall_be(
    state: ClusterState, found: list[IntentionReading]
) -> None:
    """Where Consul lets through what no intention denies."""

    def is_open(now: list[IntentionReading], source: str, destination: str) -> bool:
        said = {(one.source, one.destination): one.action for one in now}
        return said.get((source, destination), said.get((ANYBODY, destination), "allow")) != "deny"

    plan = reconcile_intentions(state, found)
    end = after_changes(found, plan.changes)
    for count in range(len(plan.changes)):
        now = after_changes(found, plan.changes[:count])
        for source in (*NAMES, "s"):
            for destination in (*NAMES, "s", "elsewhere"):
                if is_open(now, source, destination):
                    assert is_open(found, source, destination) or is_open(end, source, destination)


def test_tokens_end_with_their_allocation_and_with_its_service() -> None:
    state = shop_and_db()

    def token(allocation_id: str, service: str, cluster: str = state.cluster_id) -> ProxyToken:
        return ProxyToken(service, token_mark(cluster, allocation_id, service))

    good = (token("db-00000001", "db"), token("shop-00000002", "shop"))
    others = (token("gone", "db", "c2"), ProxyToken("x", "somebody's"), ProxyToken("y", MARK))
    stale = (token("db-00000001", "before"), token("gone-00000001", "db"))
    assert stale_tokens(state, (*good, *others, *stale)) == stale
    assert stale_tokens(shop_and_db(status=AllocationStatus.LOST), good) == good[:1]
    unlinked = msgspec.structs.replace(
        state, workloads=state.workloads.set("shop", workload("shop"))
    )
    assert stale_tokens(unlinked, good) == good
    assert stale_tokens(shop_and_db(wanted=False), good) == ()
