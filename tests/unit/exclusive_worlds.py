"""Small worlds for tests of exclusive guests."""

from __future__ import annotations

from sappers.decisions.reconcile_cluster import reconcile_cluster
from sappers.model.allocation import Allocation
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import PutWorkload
from sappers.model.observation import MemberObservation
from sappers.model.policy import FencingSettings
from tests.unit.worlds import commit, founded, workload

LEASE = FencingSettings().lease_seconds


def run_once(state: ClusterState, now: float, **observed: object) -> ClusterState:
    """The state after the leader's plan."""
    gossip = tuple(one for _, one in sorted(state.members.items()))
    seen = MemberObservation(gossip=gossip, **observed)
    commands = reconcile_cluster(state, seen, now)
    return commit(state, *commands, time=now)[0] if commands else state


def exclusive(count: int = 1) -> tuple[ClusterState, Allocation]:
    state, _ = commit(founded(3), PutWorkload(workload(exclusive=True, count=count)))
    state = run_once(state, 1.0)
    return state, state.allocations_of("hello")[0]
