"""Which images a member keeps: all of the cluster's, and those of its own guests first."""

from __future__ import annotations

from sappers.model.cluster_state import ClusterState
from sappers.model.workload import ImageReference


def wanted_images(state: ClusterState, member_id: str) -> tuple[ImageReference, ...]:
    """Images that this member is to have, the most urgent first, each once.

    First what a guest of this member waits for or may be restarted from, then the cluster's
    images, the last pushed first: that one is most likely to be run next.
    """
    mine = [
        allocation.image
        for allocation in state.allocations_on(member_id)
        if not allocation.status.is_terminal
    ]
    rest = sorted(state.images.values(), key=lambda image: (-image.pushed_at, image.digest))
    kept: dict[str, ImageReference] = {}
    for image in (*mine, *(ImageReference(image.name, image.digest) for image in rest)):
        kept.setdefault(image.digest, image)
    return tuple(kept.values())
