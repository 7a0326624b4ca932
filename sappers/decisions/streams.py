"""Which workloads have a stream for durable messages, and on how many servers: the leader's plan.

Invariant: no message is thrown away on a passing word. A stream is removed only once its workload
has been gone, and nothing of it has run, for `GONE_SECONDS` without a break, as one leader saw it.

A stream that lacks a server gets the next one that comes, by JetStream itself. It is never asked to
have fewer: JetStream chooses those that stay, and may choose the very server that is just going,
with which the stream then has no majority.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sappers.model.cluster_state import ClusterState
from sappers.model.durable import KeepStream, RemoveStream, StreamAction, StreamReading

REPLICAS_MAX = 3
GONE_SECONDS = 600.0


class StreamPlan(msgspec.Struct, frozen=True):
    """What to do about streams.

    Attributes:
        actions: In order: what is removed first, for its room may be needed.
        gone_since: For the next plan: since when nobody wants a stream, by workload, in monotonic
            seconds.
    """

    actions: tuple[StreamAction, ...]
    gone_since: Mapping[str, float]


def plan_streams(
    state: ClusterState,
    found: Mapping[str, StreamReading],
    gone_since: Mapping[str, float],
    now: float,
) -> StreamPlan:
    """What brings the streams closer to what the state wants.

    Args:
        state: The leader's.
        found: Streams there are, by workload.
        gone_since: As the last plan of this leader had it; empty at first.
        now: Monotonic seconds.
    """
    wanted = set(state.workloads) | {
        allocation.workload
        for allocation in state.allocations.values()
        if not allocation.status.is_terminal and not allocation.repair
    }
    servers = len(state.hub_servers)
    keep = [
        KeepStream(name, replicas)
        for name in sorted(wanted)
        if (replicas := _replicas(servers, found.get(name)))
        and found.get(name) != StreamReading(replicas)
    ]
    gone = {name: gone_since.get(name, now) for name in sorted(found.keys() - wanted)}
    remove = [RemoveStream(name) for name, since in gone.items() if now - since >= GONE_SECONDS]
    return StreamPlan((*remove, *keep), gone)


def _replicas(servers: int, found: StreamReading | None) -> int:
    """How many a stream should have; a server that is alone keeps it in another way."""
    had = found.replicas if found is not None and servers > 1 else 0
    return min(REPLICAS_MAX, max(servers, had))
