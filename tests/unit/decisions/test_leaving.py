"""Who says goodbye when it is stopped: who was drained, and is empty."""

from __future__ import annotations

import immutables
import msgspec
import pytest

from sappers.decisions.leaving import may_leave
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import CordonMember
from tests.fake_member import make_allocation
from tests.unit.worlds import commit, founded


@pytest.fixture
def state() -> ClusterState:
    """m4 is drained, and neither votes nor has the hub."""
    found, outcome = commit(founded(4), CordonMember("m4", drain=True))
    assert not outcome.refused
    return msgspec.structs.replace(
        found, electorate=("m1", "m2", "m3"), hub_servers=("m1", "m2", "m3")
    )


def test_who_is_drained_and_empty_leaves(state: ClusterState) -> None:
    assert may_leave(state, "m4")
    assert not may_leave(state, "m3")
    assert not may_leave(ClusterState(), "m4")


def test_who_is_only_cordoned_is_away(state: ClusterState) -> None:
    assert not may_leave(msgspec.structs.replace(state, cordons=immutables.Map()), "m4")
    cordoned, _ = commit(founded(4), CordonMember("m4", drain=False))
    assert not may_leave(msgspec.structs.replace(cordoned, electorate=(), hub_servers=()), "m4")


@pytest.mark.parametrize("what", ["electorate", "hub_servers"])
def test_who_has_a_part_still_is_away(state: ClusterState, what: str) -> None:
    assert not may_leave(msgspec.structs.replace(state, **{what: ("m4",)}), "m4")


def test_who_has_a_guest_still_is_away(state: ClusterState) -> None:
    one = make_allocation("hello", "m4")
    with_guest = msgspec.structs.replace(state, allocations=immutables.Map({one.id: one}))
    assert not may_leave(with_guest, "m4")
    over = msgspec.structs.replace(one, status=AllocationStatus.STOPPED)
    assert may_leave(
        msgspec.structs.replace(state, allocations=immutables.Map({one.id: over})), "m4"
    )
