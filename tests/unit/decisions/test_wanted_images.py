from __future__ import annotations

import msgspec

from sappers.decisions.wanted_images import wanted_images
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.commands import PutImage
from sappers.model.image import ClusterImage
from sappers.model.workload import ImageReference
from tests.unit.worlds import IMAGE, commit, founded

WEB = ImageReference("web", "e" * 64)
OLD = ImageReference("old", "f" * 64)


def test_its_own_guests_images_come_first_and_each_once() -> None:
    state = founded()
    for image, pushed_at in ((WEB, 9.0), (OLD, 0.5)):
        pushed = ClusterImage(image.name, image.digest, "microvm", 1, pushed_at)
        state, _ = commit(state, PutImage(pushed))
    assert wanted_images(state, "m1") == (WEB, IMAGE, OLD)
    allocation = Allocation("a1", "old", 1, OLD, 128, "m1", placed_term=1)
    state = msgspec.structs.replace(state, allocations=state.allocations.set("a1", allocation))
    assert wanted_images(state, "m1") == (OLD, WEB, IMAGE)
    assert wanted_images(state, "m2") == (WEB, IMAGE, OLD)


def test_an_image_that_the_cluster_forgot_is_kept_while_a_guest_needs_it() -> None:
    gone = ImageReference("gone", "a" * 64)
    allocation = Allocation("a1", "gone", 1, gone, 128, "m1", placed_term=1)
    state = founded()
    state = msgspec.structs.replace(state, allocations=state.allocations.set("a1", allocation))
    assert wanted_images(state, "m1") == (gone, IMAGE)
    ended = msgspec.structs.replace(allocation, status=AllocationStatus.STOPPED)
    state = msgspec.structs.replace(state, allocations=state.allocations.set("a1", ended))
    assert wanted_images(state, "m1") == (IMAGE,)
