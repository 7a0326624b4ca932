"""Images and keys in the replicated state."""

from __future__ import annotations

import msgspec

from sappers.consensus.state_machine import apply
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state, encode_state
from sappers.model.commands import (
    DistrustImageKey,
    Entry,
    FoundCluster,
    PlaceAllocation,
    PutImage,
    PutWorkload,
    RegisterMember,
    RemoveImage,
    ReportAllocation,
    StopWorkload,
    TrustImageKey,
)
from sappers.model.image import ClusterImage, ImageKey
from sappers.model.workload import ImageReference
from tests.unit.worlds import CLUSTER_IMAGE, IMAGE, allocation, commit, founded, member, workload

ANN = ImageKey("a" * 64, "ann")
BOB = ImageKey("b" * 64, "bob")


def test_an_image_is_put_once_and_said_so() -> None:
    image = ClusterImage("web", "e" * 64, "nanos", 31_400_000, 5.0)
    state, outcome = commit(founded(), PutImage(image))
    assert state.images[image.digest] == image
    assert outcome.events[0].text == (
        "image web (eeeeeeeeeeee) is to be on every member: nanos, 31.4 MB"
    )
    again, outcome = commit(state, PutImage(msgspec.structs.replace(image, pushed_at=9.0)))
    assert (again.images, outcome.events) == (state.images, ())


def test_a_workload_needs_an_image_that_the_cluster_has_and_that_is_a_guests() -> None:
    lacking = workload(image=ImageReference("web", "e" * 64))
    state, outcome = commit(founded(), PutWorkload(lacking))
    assert outcome.refused == "the cluster has no image web (eeeeeeeeeeee)"
    assert not state.workloads
    state, _ = commit(state, PutImage(ClusterImage("web", "e" * 64, "appliance", 1, 0.0)))
    _, outcome = commit(state, PutWorkload(lacking))
    assert "appliance" in outcome.refused


def test_an_image_in_use_stays() -> None:
    state, _ = commit(founded(), PutWorkload(workload()))
    _, outcome = commit(state, RemoveImage(IMAGE.digest))
    assert outcome.refused == "image hello is in use: hello"
    copy = allocation("a1", revision=state.workloads["hello"].revision)
    state, _ = commit(state, PlaceAllocation(copy, "room"), StopWorkload("hello"))
    _, outcome = commit(state, RemoveImage(IMAGE.digest))
    assert outcome.refused == "image hello is in use: a1"
    state, _ = commit(state, ReportAllocation("a1", AllocationStatus.STOPPED, "as asked"))
    state, outcome = commit(state, RemoveImage(IMAGE.digest))
    assert outcome.refused == ""
    assert not state.images
    _, outcome = commit(state, RemoveImage(IMAGE.digest))
    assert "no image" in outcome.refused


def test_the_first_keys_come_with_the_cluster_and_the_last_one_stays() -> None:
    state, _ = commit(ClusterState(), FoundCluster("c1", ("m1",), (ANN,)))
    assert state.image_keys == (ANN,)
    _, outcome = commit(state, DistrustImageKey(ANN.key))
    assert "the last one" in outcome.refused
    state, _ = commit(state, TrustImageKey(BOB))
    state, outcome = commit(state, DistrustImageKey(ANN.key))
    assert outcome.events[0].kind == "image-key.distrusted"
    assert state.image_keys == (BOB,)
    _, outcome = commit(state, DistrustImageKey(ANN.key))
    assert "no image key" in outcome.refused
    _, outcome = commit(state, TrustImageKey(BOB))
    assert outcome.events == ()
    state, _ = commit(state, TrustImageKey(ImageKey(BOB.key, "robert")))
    assert state.image_keys == (ImageKey(BOB.key, "robert"),)


def test_images_survive_a_snapshot_and_older_ones_have_none() -> None:
    state, _ = commit(founded(), TrustImageKey(ANN))
    assert decode_state(encode_state(state)) == state
    older = msgspec.msgpack.decode(encode_state(state))
    del older["images"], older["image_keys"]
    back = decode_state(msgspec.msgpack.encode(older))
    assert (dict(back.images), back.image_keys) == ({}, ())
    assert dict(state.images) == {IMAGE.digest: CLUSTER_IMAGE}


def test_entries_of_an_older_agent_are_understood() -> None:
    founding = {
        "request_id": "r1",
        "proposer": "m1",
        "time": 0.0,
        "commands": [{"type": "found-cluster", "cluster_id": "c1", "electorate": ["m1"]}],
    }
    state, outcome = apply(ClusterState(), Entry(1, 1, msgspec.msgpack.encode(founding)))
    assert outcome.refused == ""
    assert (state.cluster_id, state.image_keys) == ("c1", ())


def test_what_only_gossip_knows_of_a_member_is_not_registered() -> None:
    seen = member(9, images=("aaaaaaaa",))
    state, _ = commit(founded(), RegisterMember(seen.lasting()))
    assert state.members["m9"] == member(9)
