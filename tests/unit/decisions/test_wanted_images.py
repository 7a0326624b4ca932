from __future__ import annotations

from sappers.decisions.wanted_images import wanted_images
from sappers.model.allocation import AllocationStatus
from sappers.model.commands import PutImage
from sappers.model.image import ClusterImage
from sappers.model.workload import ImageReference
from tests.unit.worlds import IMAGE, allocation, commit, founded, with_allocations

WEB = ImageReference("web", "e" * 64)
OLD = ImageReference("old", "f" * 64)


def test_its_own_guests_images_come_first_and_each_once() -> None:
    state = founded()
    for image, pushed_at in ((WEB, 9.0), (OLD, 0.5)):
        pushed = ClusterImage(image.name, image.digest, "microvm", 1, pushed_at)
        state, _ = commit(state, PutImage(pushed))
    assert wanted_images(state, "m1") == (WEB, IMAGE, OLD)
    state = with_allocations(state, allocation("a1", image=OLD))
    assert wanted_images(state, "m1") == (OLD, WEB, IMAGE)
    assert wanted_images(state, "m2") == (WEB, IMAGE, OLD)


def test_an_image_that_the_cluster_forgot_is_kept_while_a_guest_needs_it() -> None:
    gone = ImageReference("gone", "a" * 64)
    state = with_allocations(founded(), allocation("a1", image=gone))
    assert wanted_images(state, "m1") == (gone, IMAGE)
    ended = allocation("a1", image=gone, status=AllocationStatus.STOPPED)
    state = with_allocations(state, ended)
    assert wanted_images(state, "m1") == (IMAGE,)
