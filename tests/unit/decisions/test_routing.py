from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.routing import choose_routes, routed_services
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.route import Backend, Route
from tests.unit import worlds
from tests.unit.worlds import member, with_allocations, workload


def state_of(*workloads: object, allocations: tuple[Allocation, ...] = ()) -> ClusterState:
    state = with_allocations(ClusterState(), *allocations)
    return msgspec.structs.replace(
        state,
        members=state.members.update({f"m{number}": member(number) for number in range(1, 10)}),
        workloads=state.workloads.update({one.name: one for one in workloads}),
    )


def allocation(number: int, **changes: object) -> Allocation:
    made = worlds.allocation(
        f"hello-{number}",
        member_id=f"m{number}",
        host_port=8080,
        status=AllocationStatus.HEALTHY,
    )
    return msgspec.structs.replace(made, **changes)


def backend(number: int) -> Backend:
    return Backend(f"hello-{number}", f"10.0.0.{number}", 8080)


def test_a_service_without_a_healthy_guest_is_known_and_empty() -> None:
    assert choose_routes(state_of(workload("hello")), {}, ()) == (Route("hello"),)


def test_only_what_has_a_port_is_routed() -> None:
    state = state_of(workload("b", service="shop"), workload("a"), workload("c", guest_port=None))
    assert routed_services(state) == ("a", "shop")


def test_two_workloads_may_serve_one_service() -> None:
    state = state_of(workload("blue", service="shop"), workload("green", service="shop"))
    assert choose_routes(state, {"shop": [backend(2), backend(1), backend(2)]}, ()) == (
        Route("shop", (backend(1), backend(2))),
    )


def test_what_is_to_stop_is_taken_out_whatever_consul_says() -> None:
    allocations = (
        allocation(1),
        allocation(2, wanted=False),
        allocation(3, status=AllocationStatus.LOST),
        allocation(4, status=AllocationStatus.UNHEALTHY),
    )
    state = state_of(workload("hello"), allocations=allocations)
    (route,) = choose_routes(state, {"hello": [backend(n) for n in (1, 2, 3, 4, 5)]}, ())
    # Whether 4 is healthy is Consul's to say, and 5 is news that the replica does not have yet.
    assert [one.id for one in route.backends] == ["hello-1", "hello-4", "hello-5"]


def test_a_guest_is_routed_to_only_where_the_cluster_put_it() -> None:
    state = state_of(workload("hello"), allocations=(allocation(1), allocation(2)))
    elsewhere = [
        Backend("hello-1", "10.0.0.2", 8080),
        Backend("hello-2", "10.0.0.2", 22),
        Backend("hello-3", "192.0.2.1", 8080),
    ]
    assert choose_routes(state, {"hello": elsewhere}, ()) == (Route("hello"),)
    assert choose_routes(state, {}, [Route("hello", tuple(elsewhere))]) == (Route("hello"),)
    (route,) = choose_routes(state, {"hello": [*elsewhere, backend(1)]}, ())
    assert route.backends == (backend(1),)
    (route,) = choose_routes(state, {"hello": [backend(1), *elsewhere]}, ())
    assert route.backends == (backend(1),)


def test_while_consul_is_silent_the_last_routes_stay_but_for_what_ends() -> None:
    allocations = (allocation(1), allocation(2, wanted=False))
    state = state_of(workload("hello"), allocations=allocations)
    before = [Route("hello", (backend(1), backend(2), backend(3))), Route("gone", (backend(4),))]
    (route,) = choose_routes(state, {}, before)
    assert [one.id for one in route.backends] == ["hello-1", "hello-3"]


def test_where_consul_leaves_no_guest_those_stay_that_the_cluster_knows_as_healthy() -> None:
    allocations = (allocation(1), allocation(2, status=AllocationStatus.UNHEALTHY))
    state = state_of(workload("hello"), allocations=allocations)
    before = [Route("hello", (backend(1), backend(2), backend(3)))]
    (route,) = choose_routes(state, {"hello": []}, before)
    assert [one.id for one in route.backends] == ["hello-1"]
    (route,) = choose_routes(state, {"hello": [backend(2)]}, before)
    assert [one.id for one in route.backends] == ["hello-2"]


names = st.sampled_from(["hello", "shop", "none"])
backends = st.lists(st.integers(1, 9).map(backend), max_size=9)


routes = st.dictionaries(names, backends.map(tuple)).map(
    lambda found: [Route(*one) for one in sorted(found.items())]
)


@given(st.sets(names), st.dictionaries(names, backends), routes, st.sets(st.integers(1, 9)))
def test_routes_are_for_the_states_services_and_from_consuls_guests(
    services: set[str], passing: dict[str, list[Backend]], before: list[Route], ending: set[int]
) -> None:
    allocations = tuple(allocation(number, wanted=False) for number in ending)
    state = state_of(*(workload(name) for name in services), allocations=allocations)
    chosen = choose_routes(state, passing, before)
    assert [route.service for route in chosen] == sorted(services)
    known = {route.service: route.backends for route in before}
    for route in chosen:
        told = passing.get(route.service, known.get(route.service, ()))
        assert set(route.backends) <= set(told)
        assert not {one.id for one in route.backends} & {f"hello-{n}" for n in ending}
    assert choose_routes(state, passing, chosen) == chosen
