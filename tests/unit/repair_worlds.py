"""Small worlds for tests of repairs: a cluster with a healer and a key, and who died in it."""

from __future__ import annotations

from sappers.model.cluster_state import ClusterState
from sappers.model.commands import PutImage, SetMemberState
from sappers.model.image import ClusterImage
from sappers.model.member import MemberState
from sappers.model.repair import HEALER, Repair, RepairKey, RepairLogin
from sappers.model.repair_commands import AssignHealer, OpenRepair, PutRepairKey
from sappers.model.workload import ImageReference
from tests.unit.worlds import allocation, commit, founded

HEALER_IMAGE = ClusterImage(HEALER, "a" * 64, "microvm", 30_000_000, 1.0)
KEY = RepairKey("ssh-ed25519 AAAA", b"sealed")


def login(member_id: str) -> RepairLogin:
    return RepairLogin(member_id, 22, "root", become=False, host_keys=("ssh-ed25519 AAAB",))


def healing_cluster(count: int = 3) -> ClusterState:
    """A cluster that can repair each of its members."""
    state, _ = commit(founded(count), PutImage(HEALER_IMAGE))
    logins = tuple(login(member_id) for member_id in sorted(state.members))
    state, outcome = commit(state, PutRepairKey(KEY, logins))
    assert not outcome.refused
    return state


def died(state: ClusterState, member_id: str, now: float) -> ClusterState:
    state, _ = commit(state, SetMemberState(member_id, MemberState.DEAD, "test"), time=now)
    return state


def revived(state: ClusterState, member_id: str, now: float) -> ClusterState:
    state, _ = commit(state, SetMemberState(member_id, MemberState.ALIVE, "test"), time=now)
    return state


def opened(now: float = 100.0, member_id: str = "m2") -> ClusterState:
    """A repair `r1` of m2 is open."""
    state = died(healing_cluster(), member_id, now - 20)
    state, outcome = commit(state, OpenRepair("r1", member_id, "test"), time=now)
    assert not outcome.refused
    return state


def assign(attempt: int = 1, on: str = "m1", **changes: object) -> AssignHealer:
    """The command that places a healer `h<attempt>` of `r1`."""
    healer = {
        "workload": HEALER,
        "revision": 0,
        "image": ImageReference(HEALER, HEALER_IMAGE.digest),
        "memory_mib": 256,
        "member_id": on,
        "repair": "r1",
    }
    copy = allocation(f"h{attempt}", **healer | changes)
    return AssignHealer("r1", attempt, copy, "room there", 250.0)


def only_repair(state: ClusterState) -> Repair:
    (repair,) = state.repairs.values()
    return repair
