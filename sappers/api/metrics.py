"""A member's figures in Prometheus' text format, made anew at each scrape; nothing is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member, MemberState
from sappers.model.observation import RaftRole, RaftStatus
from sappers.ports import ImageFigures


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def metrics_text(
    me: Member,
    members: Sequence[Member],
    raft: RaftStatus,
    state: ClusterState,
    *,
    hub_connected: bool,
    images: ImageFigures,
    refused: Mapping[str, int],
    pushes: int,
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
                CounterMetricFamily(
                    "sappers_health_pushes", "Health pushes taken", value=float(pushes)
                ),
                _refused(refused),
                _plain("sappers_alerts", "Alerts that the monitor has raised", len(state.alerts)),
                *_images(images),
            )
        )
    )
    return generate_latest(registry).decode()


def _refused(counts: Mapping[str, int]) -> CounterMetricFamily:
    """By kind alone: labels that strangers choose would have no end."""
    family = CounterMetricFamily(
        "sappers_refused", "What was refused to guests and strangers", labels=["kind"]
    )
    for kind, count in counts.items():
        family.add_metric([kind], float(count))
    return family


def _images(figures: ImageFigures) -> Iterable[Metric]:
    yield _plain("sappers_images_wanted", "Images this member is to have", figures.wanted)
    yield _plain("sappers_images_whole", "Images that are whole here", figures.whole)
    for name, text, value in (
        ("bytes_fetched", "Bytes of chunks fetched from other members", figures.bytes_fetched),
        ("bytes_received", "Bytes of chunks that operators sent", figures.bytes_received),
        ("bytes_sent", "Bytes of chunks sent to others", figures.bytes_sent),
        ("chunks_damaged", "Chunks that came and did not match", figures.chunks_damaged),
        ("uploads_refused", "Calls for chunks told to come later", figures.uploads_refused),
    ):
        yield CounterMetricFamily(f"sappers_image_{name}", text, value=float(value))


def _plain(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
