"""Manifests are asked of members, any of which may answer anything."""

from __future__ import annotations

import pytest

from sappers.agent.hub.health_call import health_of
from sappers.agent.images.image_threads import ImageThreads
from sappers.agent.images.manifest_search import ManifestSearch
from sappers.errors import ApiError
from sappers.model.workload import ImageReference
from tests.unit.clocks import FixedClock
from tests.unit.worlds import member

IMAGE = ImageReference("hello", "0" * 64)
ANSWERS = {
    "no JSON": b"<html>",
    "no text": b'{"manifest": "", "signatures": [{"key": "\xff"}], "member_id": "\xff"}',
    "no end": b'{"more": ' + b"[" * 100_000,
}


class Peers:
    """The first member answers what it likes, the others have nothing."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def call(self, member, method, path, *, body=None, timeout_seconds) -> bytes:
        self.asked.append(member.id)
        if member.id == "m1":
            return self.answer
        raise ApiError("it has none", status=404)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_whatever_one_answers_the_next_is_asked_and_then_nobody_for_a_while(
    answer: bytes,
) -> None:
    peers, threads = Peers(answer), ImageThreads(1)
    search = ManifestSearch(
        store=None,  # type: ignore[arg-type]  # nothing gets there
        peers=peers,
        candidates=lambda _: [member(1), member(2)],
        clock=FixedClock(),
        threads=threads,
    )
    trouble = await search.search(IMAGE)
    threads.close()
    assert trouble is not None
    assert trouble.text.startswith("its manifest was refused: ")
    assert peers.asked == ["m1", "m2"]
    assert not search.is_due(IMAGE.digest)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_what_is_no_health_is_none(answer: bytes) -> None:
    assert await health_of(Peers(answer), member(1), 1.0) is None
