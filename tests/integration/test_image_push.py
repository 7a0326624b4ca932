"""Push and pull over real sockets, with members that do not exchange anything themselves: what
they have came from this machine."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sappers.agent.clock import SystemClock
from sappers.api.image_pull import pull_image
from sappers.api.image_push import ImagePush, MemberShare, SpreadStalled
from sappers.api.operator_client import OperatorClient
from sappers.api.server import ApiServer
from sappers.api.ways import Endpoint
from sappers.errors import ApiError, ImageError, ImageIncomplete, ImageUntrusted
from sappers.model.image import CHUNK_BYTES
from sappers.model.member import Member
from sappers.security.authority import create_authority
from tests.fake_member import FakeMember
from tests.identities import make_cluster_identities, make_operator_identity
from tests.image_stores import KEY, STRANGER, copy_image, damage, make_store, put_image

NAMES = ("n1", "n2", "n3")
CHUNKS = 13
MANY = 40  # more than there are connections, so that some are left when the first ones are done


class OneOfThree(FakeMember):
    """Knows the others by gossip."""

    gossip: dict[str, Member]

    def members(self) -> tuple[Member, ...]:
        return tuple(getattr(self, "gossip", {}).values())


class Three:
    """Three served members, and the control machine's store."""

    def __init__(self, folder: Path) -> None:
        authority = create_authority("test")
        self.identities = make_cluster_identities(folder, NAMES, authority=authority)
        self.operator = make_operator_identity(folder, authority)
        self.store = make_store(folder / "control")
        self.folder = folder
        self.gossip: dict[str, Member] = {}
        self.members: dict[str, OneOfThree] = {}
        self.servers: dict[str, ApiServer] = {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def wait(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(90)

    def start(self) -> None:
        for name in NAMES:
            self.wait(self._start(name))
        endpoints = [
            Endpoint(name, "127.0.0.1", server.port, name) for name, server in self.servers.items()
        ]
        self.client = OperatorClient(self.operator, endpoints)

    async def _start(self, name: str) -> None:
        member = OneOfThree(name, self.folder / name / "images")
        member.gossip = self.gossip
        server = ApiServer(
            member,
            self.identities[name],
            "127.0.0.1",
            0,
            clock=SystemClock(),
            refusals=member.refusals,
        )
        await server.start()
        member.listens_at(server.port)
        self.gossip[name] = member.me
        self.members[name], self.servers[name] = member, server

    def kill(self, name: str) -> None:
        """Nobody answers there any more, and gossip soon says so."""
        self.gossip.pop(name, None)
        self.wait(self.servers[name].stop())

    def close(self) -> None:
        self.client.close()
        for server in self.servers.values():
            self.wait(server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def build(self, mebibytes: int = CHUNKS - 1) -> str:
        """One chunk for the kernel, and so many more."""
        return put_image(self.store, initrd=os.urandom(mebibytes * CHUNK_BYTES))

    def order(self, digest: str) -> tuple[str, ...]:
        manifest = self.store.manifest(digest)
        assert manifest is not None
        return manifest.chunks()

    def holders(self, digest: str, *names: str) -> Counter[str]:
        """How many members have each chunk."""
        found: Counter[str] = Counter()
        for name in names or NAMES:
            missing = set(self.members[name].store.missing_chunks(digest))
            found.update(set(self.order(digest)) - missing)
        return found


class Watcher:
    """Remembers; `at` maps a number of confirmed chunks to what happens then."""

    def __init__(self, at: dict[int, Any] | None = None) -> None:
        self.at = at or {}
        self.to_send = 0
        self.done = 0
        self.shares: Sequence[MemberShare] = ()
        self._lock = threading.Lock()

    def sending(self, content_bytes: int) -> None:
        self.to_send += content_bytes

    fetching = sending

    def sent(self, content_bytes: int) -> None:
        del content_bytes
        with self._lock:
            self.done += 1
            then = self.at.pop(self.done, None)
        if then is not None:
            then()

    fetched = sent

    def spread(self, members: Sequence[MemberShare]) -> None:
        self.shares = members


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    one = Three(tmp_path)
    one.start()
    yield one
    one.close()


def push(three: Three, digest: str, watcher: Watcher | None = None, **more: Any):
    return ImagePush(three.client, three.store, watcher or Watcher(), **more).push(digest)


def test_each_chunk_goes_to_one_member(three: Three) -> None:
    digest, watcher = three.build(), Watcher()
    pushed = push(three, digest, watcher, wait=False)
    assert (pushed.chunks, pushed.chunks_sent) == (CHUNKS, CHUNKS)
    assert three.holders(digest) == Counter(three.order(digest))
    assert watcher.to_send == (CHUNKS - 1) * CHUNK_BYTES + len(b"kernel")
    assert {share.name for share in watcher.shares} == set(NAMES)
    assert push(three, digest, wait=False).chunks_sent == 0


def test_a_later_image_sends_what_changed(three: Three) -> None:
    content = os.urandom(5 * CHUNK_BYTES)
    first = put_image(three.store, initrd=content)
    push(three, first, wait=False)
    second = put_image(three.store, initrd=content[: 4 * CHUNK_BYTES] + b"new")
    assert push(three, second, wait=False).chunks_sent == 1


def test_a_member_that_dies_takes_nothing_with_it(three: Three) -> None:
    digest = three.build()
    watcher = Watcher({5: lambda: three.kill("n2")})
    pushed = push(three, digest, watcher, wait=False)
    assert three.holders(digest, "n1", "n3").keys() == set(three.order(digest))
    assert pushed.chunks_sent >= CHUNKS
    assert {share.name for share in pushed.members} <= set(NAMES)


def test_a_killed_push_goes_on_where_it_was(three: Three) -> None:
    def killed() -> None:
        raise ImageError("killed")

    digest = three.build(MANY - 1)
    with pytest.raises(ImageError, match="killed"):
        push(three, digest, Watcher({4: killed}), wait=False)
    there = len(three.holders(digest))
    assert 4 <= there < MANY
    assert push(three, digest, wait=False).chunks_sent == MANY - there
    assert three.holders(digest) == Counter(three.order(digest))


def test_what_does_not_spread_is_said(three: Three) -> None:
    digest = three.build(2)
    with pytest.raises(SpreadStalled) as stalled:
        push(three, digest, stall_seconds=0.3)
    for name in NAMES:
        late = bool(three.members[name].store.missing_chunks(digest))
        assert (f"{name} has " in stalled.value.message) == late
    for name in NAMES:
        store = three.members[name].store
        for chunk in store.missing_chunks(digest):
            frame = three.store.read_chunk(chunk)
            assert frame is not None
            three.wait(three.members[name].spread.accept_chunk(chunk, frame))
    assert all(share.is_whole for share in push(three, digest).members)


def test_what_is_damaged_here_is_not_sent(three: Three) -> None:
    digest = three.build(2)
    chunk = three.order(digest)[1]
    damage(three.folder / "control" / "chunks" / chunk[:2] / chunk, at=5000)
    with pytest.raises(ImageError, match="damaged here") as refused:
        push(three, digest, wait=False)
    assert refused.value.hint
    assert chunk not in three.holders(digest)
    with pytest.raises(ImageError, match="not here"):
        push(three, "0" * 64)


def test_what_a_stranger_signed_is_refused_by_all(three: Three) -> None:
    theirs = make_store(three.folder / "theirs", lambda: (STRANGER.public,))
    digest = put_image(theirs, key=STRANGER)
    with pytest.raises(ApiError, match="trusted key") as refused:
        ImagePush(three.client, theirs, Watcher()).push(digest)
    assert refused.value.status == 403
    assert all(one.store.manifest(digest) is None for one in three.members.values())


def scatter(three: Three, digest: str) -> None:
    """The last member has all of an image, the others every second chunk."""
    push(three, digest, wait=False)
    for place, chunk in enumerate(three.order(digest)):
        for name in ("n3", ("n1", "n2")[place % 2]):
            frame = three.store.read_chunk(chunk)
            assert frame is not None
            three.wait(three.members[name].spread.accept_chunk(chunk, frame))


def test_pulled_from_several_and_whole(three: Three) -> None:
    digest = three.build()
    scatter(three, digest)
    sink, watcher = make_store(three.folder / "sink"), Watcher()
    pulled = pull_image(three.client, sink, digest, watcher)
    assert (pulled.name, pulled.chunks_fetched, watcher.done) == ("web", CHUNKS, CHUNKS)
    sink.verify(digest)
    assert pull_image(three.client, sink, digest, Watcher()).chunks_fetched == 0


def test_a_killed_pull_goes_on_and_damage_is_fetched_elsewhere(three: Three) -> None:
    digest = three.build(MANY - 1)
    scatter(three, digest)
    chunk = three.order(digest)[2]  # n1 and n3 have it, and maybe n2
    for name in ("n1", "n2"):
        path = three.folder / name / "images" / "chunks" / chunk[:2] / chunk
        if path.exists():
            damage(path, at=5000)

    def killed() -> None:
        raise ImageError("killed")

    sink = make_store(three.folder / "sink")
    with pytest.raises(ImageError, match="killed"):
        pull_image(three.client, sink, digest, Watcher({3: killed}))
    lacking = len(sink.missing_chunks(digest))
    assert 0 < lacking < MANY
    assert pull_image(three.client, sink, digest, Watcher()).chunks_fetched == lacking
    sink.verify(digest)


def test_a_pull_onto_a_full_disk_goes_on_once_there_is_room(three: Three, small_disk: Path) -> None:
    digest = three.build(3)
    push(three, digest, wait=False)
    (ballast := small_disk / "ballast").write_bytes(bytes(2 * CHUNK_BYTES))
    sink = make_store(small_disk / "images")
    with pytest.raises(ImageError, match="no room") as refused:
        pull_image(three.client, sink, digest, Watcher())
    assert refused.value.hint == "free some space and repeat"
    with pytest.raises(ImageIncomplete):
        sink.verify(digest)
    lacking = len(sink.missing_chunks(digest))
    assert 0 < lacking < 4
    ballast.unlink()
    assert pull_image(three.client, sink, digest, Watcher()).chunks_fetched == lacking
    sink.verify(digest)


def test_nothing_is_pulled_that_this_machine_does_not_trust(three: Three) -> None:
    digest = three.build(1)
    push(three, digest, wait=False)
    sink = make_store(three.folder / "sink", lambda: (STRANGER.public,))
    with pytest.raises(ImageUntrusted) as refused:
        pull_image(three.client, sink, digest, Watcher())
    assert refused.value.keys == (KEY.public,)
    assert not list((three.folder / "sink").rglob("chunks/*/*"))


def test_a_chunk_that_nobody_has_is_said(three: Three) -> None:
    digest = three.build(1)
    whole = make_store(three.folder / "whole")
    copy_image(three.store, whole, digest)
    push(three, digest, wait=False)
    for name in NAMES:
        for path in (three.folder / name / "images" / "chunks").rglob("?" * 64):
            damage(path, b"")
    sink = make_store(three.folder / "sink")
    with pytest.raises((ImageError, ApiError)):
        pull_image(three.client, sink, digest, Watcher())
    assert set(sink.missing_chunks(digest)) == set(three.order(digest))
