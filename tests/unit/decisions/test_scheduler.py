from __future__ import annotations

import msgspec

from sappers.decisions.scheduler import NoPlacement, Placement, place
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import MemberState, Ports, Resources
from tests.unit.worlds import allocation, founded, member, with_allocations, workload


def with_members(*members: object) -> ClusterState:
    state = founded(0)
    for one in members:
        state = msgspec.structs.replace(state, members=state.members.set(one.id, one))
    return state


def with_allocation(
    state: ClusterState, allocation_id: str, member_id: str, **changes: object
) -> ClusterState:
    made = allocation(allocation_id, revision=0, member_id=member_id, host_port=8080)
    return with_allocations(state, msgspec.structs.replace(made, **changes))


def test_copies_spread_over_members() -> None:
    state = with_members(member(1), member(2))
    state = with_allocation(state, "a1", "m1")
    chosen = place(state, workload())
    assert isinstance(chosen, Placement)
    assert chosen.member.id == "m2"


def test_the_member_with_most_free_memory_is_taken() -> None:
    state = with_members(member(1), member(2, resources=Resources(2, 4096)))
    chosen = place(state, workload())
    assert isinstance(chosen, Placement)
    assert chosen.member.id == "m2"


def test_a_member_where_it_failed_comes_last() -> None:
    state = with_members(member(1, resources=Resources(2, 8192)), member(2))
    state = with_allocation(state, "a1", "m1", status=AllocationStatus.FAILED)
    chosen = place(state, workload())
    assert isinstance(chosen, Placement)
    assert chosen.member.id == "m2"


def test_a_taken_port_is_replaced_by_a_spare_one() -> None:
    state = with_allocation(with_members(member(1)), "a1", "m1")
    chosen = place(state, workload("other"))
    assert isinstance(chosen, Placement)
    assert chosen.host_port == 20_000


def test_an_agents_own_port_is_never_published() -> None:
    chosen = place(with_members(member(1)), workload(guest_port=11000))
    assert isinstance(chosen, Placement)
    assert chosen.host_port == 20_000


def test_no_place_says_what_each_member_lacks() -> None:
    state = with_members(
        member(1, resources=Resources(2, 200)),
        member(2, state=MemberState.SUSPECT),
        member(3, state=MemberState.DEAD),
    )
    chosen = place(state, workload())
    assert chosen == NoPlacement("host1 has 200 MiB free of 298 MiB needed; host2 is suspect")


def test_members_of_one_machine_do_not_publish_the_same_port() -> None:
    one, two = member(1), member(2, address="10.0.0.1", resources=Resources(2, 8192))
    two = msgspec.structs.replace(two, ports=Ports(7947, 12001, 11001, 4223, 6223))
    state = with_allocation(with_members(one, two), "a1", "m1")
    chosen = place(state, workload("other"))
    assert isinstance(chosen, Placement)
    assert (chosen.member.id, chosen.host_port) == ("m2", 20_000)
    its_own = place(state, workload("other", guest_port=11000))
    assert isinstance(its_own, Placement)
    assert its_own.host_port == 20_000
