"""Collecting an image from other members."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sappers.agent.collect import collect_image
from sappers.errors import ApiError, ImageError
from sappers.images.store import FolderImageStore
from sappers.model.image import Manifest
from sappers.model.member import Member
from tests.unit.worlds import member

BLOB = b"kernel"


class Peers:
    """Members that hold what they are given, right or wrong."""

    def __init__(self, held: dict[str, dict[str, bytes]]) -> None:
        self._held = held

    async def stream(self, source: Member, path: str) -> AsyncIterator[bytes]:
        digest = path.rpartition("/")[2]
        if digest not in self._held[source.id]:
            raise ApiError("not here", status=404)
        yield self._held[source.id][digest]


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_damaged_copy_is_passed_over(tmp_path: Path) -> None:
    source = FolderImageStore(tmp_path / "whole")
    blob = source.put(iter([BLOB]))
    image = source.put_manifest(Manifest("web", "microvm", "x86_64", blob, blob))
    whole = {digest: source.blob_path(digest).read_bytes() for digest in (image, blob.digest)}
    store = FolderImageStore(tmp_path / "mine")
    members = [member(1), member(2), member(3)]
    held = {"m1": whole | {blob.digest: b"kernal"}, "m2": whole}
    await collect_image(image, me_id="m3", images=store, peers=Peers(held), members=lambda: members)
    store.verify(image)


async def test_it_says_what_each_member_had(tmp_path: Path) -> None:
    held = {"m1": {digest_of(BLOB): b"kernal"}, "m2": {}}
    with pytest.raises(ImageError, match=r"host1: .* does not match.*; host2: not here"):
        await collect_image(
            digest_of(BLOB),
            me_id="m3",
            images=FolderImageStore(tmp_path),
            peers=Peers(held),
            members=lambda: [member(1), member(2)],
        )
