"""A member's figures in Prometheus' text format, made anew at each scrape; nothing is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member, MemberState
from sappers.model.observation import RaftRole, RaftStatus


class _Families(Collector):
    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families


def metrics_text(
    me: Member,
    members: Sequence[Member],
    raft: RaftStatus,
    state: ClusterState,
    *,
    hub_connected: bool,
) -> str:
    """All figures of one member."""
    registry = CollectorRegistry(auto_describe=False)
    by_state = Counter(member.state for member in members)
    by_status = Counter(a.status for a in state.allocations.values() if a.member_id == me.id)
    registry.register(
        _Families(
            (
                _labelled(
                    "sappers_members",
                    "Members by what gossip says of them",
                    "state",
                    {s.value: by_state[s] for s in MemberState},
                ),
                _labelled(
                    "sappers_guests",
                    "Guests of this member by status",
                    "status",
                    {s.value: by_status[s] for s in AllocationStatus},
                ),
                _plain("sappers_raft_term", "Raft term", raft.term),
                _plain("sappers_raft_commit_index", "Highest committed index", raft.commit_index),
                _plain("sappers_raft_applied_index", "Highest applied index", raft.applied_index),
                _plain("sappers_raft_leader", "1 on the leader", raft.role is RaftRole.LEADER),
                _plain("sappers_raft_leader_known", "1 if a leader is known", bool(raft.leader_id)),
                _plain("sappers_hub_connected", "1 if connected to the hub", hub_connected),
            )
        )
    )
    return generate_latest(registry).decode()


def _plain(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
