"""Small worlds for tests of decisions: members, workloads, states, observations."""

from __future__ import annotations

import msgspec

from sappers.consensus.state_machine import Outcome, apply
from sappers.model.allocation import Allocation
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    Command,
    Entry,
    FoundCluster,
    Proposal,
    PutImage,
    RegisterMember,
    encode_proposal,
)
from sappers.model.image import ClusterImage
from sappers.model.member import Accelerator, Member, Ports, Resources
from sappers.model.workload import ImageReference, Workload

IMAGE = ImageReference("hello", "d" * 64)
CLUSTER_IMAGE = ClusterImage("hello", IMAGE.digest, "microvm", 20_000_000, 1.0)


def member(number: int, **changes: object) -> Member:
    made = Member(
        id=f"m{number}",
        name=f"host{number}",
        address=f"10.0.0.{number}",
        ports=Ports(),
        resources=Resources(cpus=2, memory_mib=2048),
        accelerator=Accelerator("tcg", "no vmx"),
        version="0.1.0",
    )
    return msgspec.structs.replace(made, **changes)


def workload(name: str = "hello", **changes: object) -> Workload:
    made = Workload(name=name, image=IMAGE, memory_mib=128, guest_port=8080)
    return msgspec.structs.replace(made, **changes)


def allocation(allocation_id: str = "hello-1", **changes: object) -> Allocation:
    made = Allocation(
        id=allocation_id,
        workload="hello",
        revision=1,
        image=IMAGE,
        memory_mib=128,
        member_id="m1",
        placed_term=1,
    )
    return msgspec.structs.replace(made, **changes)


def with_allocations(state: ClusterState, *allocations: Allocation) -> ClusterState:
    table = state.allocations.update({one.id: one for one in allocations})
    return msgspec.structs.replace(state, allocations=table)


def commit(
    state: ClusterState,
    *commands: Command,
    term: int = 1,
    time: float = 0.0,
    leader_term: int | None = None,
    request_id: str | None = None,
) -> tuple[ClusterState, Outcome]:
    index = state.index + 1
    proposal = Proposal(
        request_id=request_id or f"r{index}",
        proposer="m1",
        time=time,
        commands=commands,
        leader_term=leader_term,
        by="member/m1",
    )
    return apply(state, Entry(index, term, encode_proposal(proposal)))


def founded(count: int = 3) -> ClusterState:
    """A cluster of `count` members that has an image; the first three vote."""
    voters = tuple(f"m{number}" for number in range(1, min(count, 3) + 1))
    state, _ = commit(ClusterState(), FoundCluster("c1", voters))
    state, _ = commit(state, PutImage(CLUSTER_IMAGE))
    for number in range(1, count + 1):
        state, _ = commit(state, RegisterMember(member(number)))
    return state
