"""Members that spread images among themselves: real stores and loops, a network in memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from structlog.testing import capture_logs

from sappers.agent.clock import SystemClock
from sappers.agent.images.spread import Spread
from sappers.errors import ApiError, ImageError, ImageIncomplete, ImageUntrusted, MemberUnreachable
from sappers.model.cluster_state import ClusterState
from sappers.model.image import CHUNK_BYTES, ClusterImage, ImageKey, Manifest, SignedManifest
from sappers.model.member import Member, MemberState
from sappers.model.policy import ImageSettings
from sappers.model.workload import ImageReference
from tests.fake_member import WarmLauncher, make_allocation, make_member
from tests.image_stores import KEY, STRANGER, damage, make_store, put_image
from tests.waiting import eventually

OWNER = ImageKey(KEY.public, "test")


class Host:
    """One member: its store, and the images that it keeps."""

    def __init__(self, network: Network, name: str, settings: ImageSettings) -> None:
        self.network = network
        self.me = make_member(name)
        self.trusted = {KEY.public}
        self.store = make_store(network.folder / name, lambda: self.trusted)
        self.damaging = False
        self.requests = 0
        self.spread = Spread(
            me_id=name,
            store=self.store,
            launcher=WarmLauncher(),
            peers=network,
            chunks=network,
            members=lambda: [host.gossip() for host in network.hosts.values()],
            settings=settings,
            clock=SystemClock(),
        )

    def gossip(self) -> Member:
        state = MemberState.ALIVE if self.me.id not in self.network.down else MemberState.DEAD
        return msgspec.structs.replace(self.me, state=state, images=self.spread.announced())

    def whole(self, digest: str) -> bool:
        here, of = self.spread.held(digest)
        return of > 0 and here == of


class Network:
    """Satisfies `PeerClient` and `ChunkSource` for all its hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: dict[str, Host] = {}
        self.down: set[str] = set()
        self.hasty: set[str] = set()  # answer at once, whether or not there is news
        self.questions = 0
        self.state = ClusterState(cluster_id="c1", image_keys=(OWNER,))
        self.loop = asyncio.get_running_loop()
        self.running: dict[str, asyncio.Task[None]] = {}

    def add(self, name: str, settings: ImageSettings | None = None) -> Host:
        host = self.hosts[name] = Host(self, name, settings or ImageSettings())
        self.start(host)
        return host

    def start(self, host: Host) -> None:
        host.spread.follow(self.state, caught_up=True)
        self.running[host.me.id] = asyncio.create_task(host.spread.run())

    async def stop(self, host: Host) -> None:
        task = self.running.pop(host.me.id)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def publish(self, digest: str, name: str = "web") -> None:
        image = ClusterImage(name, digest, "microvm", 1, 1.0)
        self.state = msgspec.structs.replace(
            self.state, images=self.state.images.set(digest, image)
        )
        for host in self.hosts.values():
            host.spread.follow(self.state, caught_up=True)

    def _reached(self, member: Member) -> Host:
        if member.id in self.down:
            raise MemberUnreachable(f"{member.name} is down")
        return self.hosts[member.id]

    async def call(
        self, member: Member, method: str, path: str, *, body: Any = None, timeout_seconds: float
    ) -> bytes:
        spread = self._reached(member).spread
        url = urlsplit(path)
        parts = url.path.split("/")
        query = {key: float(values[0]) for key, values in parse_qs(url.query).items()}
        if parts[-1] == "chunks":
            self.questions += 1
            wait = 0.0 if member.id in self.hasty else query.get("wait_seconds", 0.0)
            answer: object = await spread.chunks_here(parts[3], int(query.get("seen", 0)), wait)
        else:
            answer = await spread.signed(parts[3])
        if answer is None:
            raise ApiError("no image", status=404)
        return msgspec.json.encode(answer)

    def get(self, member: Member, chunk: str) -> bytes:
        return asyncio.run_coroutine_threadsafe(self._get(member, chunk), self.loop).result(30)

    async def _get(self, member: Member, chunk: str) -> bytes:
        host = self._reached(member)
        host.requests += 1
        async with host.spread.uploading():
            frame = await host.spread.give_chunk(chunk)
        if frame is None:
            raise ApiError("no chunk", status=404)
        return b"\0" * len(frame) if host.damaging else frame


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    one = Network(tmp_path)
    yield one
    for host in list(one.hosts.values()):
        if host.me.id in one.running:
            await one.stop(host)


def build(network: Network, mebibytes: int = 12) -> tuple[Any, str, Manifest]:
    """An image on the control machine."""
    store = make_store(network.folder / "control")
    digest = put_image(store, initrd=os.urandom(mebibytes * CHUNK_BYTES))
    manifest = store.manifest(digest)
    assert manifest is not None
    return store, digest, manifest


async def hand_over(host: Host, source: Any, digest: str, chunks: Any) -> None:
    await host.spread.accept(digest, source.signed(digest))
    for chunk in chunks:
        await host.spread.accept_chunk(chunk, source.read_chunk(chunk))


async def publish_on(
    host: Host, network: Network, mebibytes: int = 12
) -> tuple[Any, str, Manifest]:
    """An image that the cluster knows and one member has whole."""
    source, digest, manifest = build(network, mebibytes)
    network.publish(digest)
    await hand_over(host, source, digest, manifest.chunks())
    return source, digest, manifest


async def test_halves_on_two_members_become_wholes_on_all(network: Network) -> None:
    hosts = [network.add(f"n{n}") for n in range(1, 5)]
    source, digest, manifest = build(network)
    chunks = manifest.chunks()
    network.publish(digest)
    await hand_over(hosts[0], source, digest, chunks[::2])
    await hand_over(hosts[1], source, digest, chunks[1::2])
    await eventually(lambda: all(host.whole(digest) for host in hosts))
    for host in hosts:
        assert await host.spread.ready(digest) == manifest
    fetched = sum(host.spread.figures().bytes_fetched for host in hosts)
    size = sum(len(source.read_chunk(chunk)) for chunk in chunks)
    assert fetched == 3 * size  # each chunk reaches each member once


async def test_a_member_that_comes_later_gets_it_from_its_peers(network: Network) -> None:
    first = network.add("n1")
    _, digest, _ = await publish_on(first, network)
    second = network.add("n2")
    await eventually(lambda: second.whole(digest))
    network.down.add("n1")
    third = network.add("n3")
    await eventually(lambda: third.whole(digest))
    third.store.verify(digest)


async def test_what_a_member_damages_is_refused_and_fetched_elsewhere(network: Network) -> None:
    good, bad = network.add("n1"), network.add("n2")
    _, digest, _ = await publish_on(good, network)
    await eventually(lambda: bad.whole(digest))
    bad.damaging = True
    late = network.add("n3")
    await eventually(lambda: late.whole(digest))
    assert late.spread.figures().chunks_damaged >= 1
    assert late.spread.figures().chunks_damaged <= 4  # then it was left alone
    late.store.verify(digest)


async def test_a_chunk_torn_on_a_members_disk_is_not_given_and_mended(network: Network) -> None:
    one, two = network.add("n1"), network.add("n2")
    source, digest, manifest = await publish_on(one, network)
    await eventually(lambda: two.whole(digest))
    torn = manifest.chunks()[3]
    damage(network.folder / "n2" / "chunks" / torn[:2] / torn, b"torn")
    assert await two.spread.give_chunk(torn) is None
    await eventually(lambda: two.whole(digest))
    assert await two.spread.give_chunk(torn) == source.read_chunk(torn)


async def test_a_launch_finds_damage_and_waits_for_the_chunk(network: Network) -> None:
    one, two = network.add("n1"), network.add("n2")
    _, digest, manifest = await publish_on(one, network)
    await eventually(lambda: two.whole(digest))
    torn = manifest.chunks()[3]
    damage(network.folder / "n2" / "chunks" / torn[:2] / torn, b"torn")
    with pytest.raises(ImageIncomplete):
        await two.spread.ready(digest)
    allocation = make_allocation("web", "n2", image=ImageReference("web", digest))
    assert not two.spread.readings([allocation])[digest].whole
    await eventually(lambda: two.whole(digest))
    assert two.spread.readings([allocation])[digest].whole
    assert await two.spread.ready(digest) == manifest


async def test_it_resumes_where_it_was(network: Network) -> None:
    slow = ImageSettings(download_mbit_per_second=40.0, downloads_at_once=1)
    first = network.add("n1")
    source, digest, manifest = await publish_on(first, network)
    half = network.add("n2", slow)
    await eventually(lambda: half.spread.held(digest)[0] >= 4)
    await network.stop(half)
    missing = half.store.missing_chunks(digest)
    again = network.add("n2")
    await eventually(lambda: again.whole(digest))
    assert len(missing) <= len(manifest.chunks()) - 4
    # One that was under way may have been stored since; what was there is not fetched again.
    rest = sum(len(source.read_chunk(chunk)) for chunk in missing)
    assert again.spread.figures().bytes_fetched <= rest


async def test_bandwidth_is_bounded(network: Network) -> None:
    first = network.add("n1")
    source, digest, manifest = await publish_on(first, network, 8)
    began = time.monotonic()
    bounded = network.add("n2", ImageSettings(download_mbit_per_second=80.0))
    await eventually(lambda: bounded.whole(digest))
    size = sum(len(source.read_chunk(chunk)) for chunk in manifest.chunks())
    # What is asked for first is free: the bound holds from then on, but for a short burst.
    assert time.monotonic() - began > 0.5 * size / 10e6


async def test_uploads_are_bounded(network: Network) -> None:
    settings = ImageSettings(uploads_at_once=2, upload_mbit_per_second=32.0)
    host = network.add("n1", settings)
    source, digest, manifest = build(network, 8)
    await hand_over(host, source, digest, manifest.chunks())

    async def ask(chunk: str) -> bool:
        try:
            async with host.spread.uploading():
                return await host.spread.give_chunk(chunk) is not None
        except ApiError as error:
            assert error.status == 503
            return False

    given = await asyncio.gather(*(ask(chunk) for chunk in manifest.chunks()))
    assert 2 <= sum(given) <= 4
    assert host.spread.figures().uploads_refused == len(given) - sum(given)


async def test_what_is_not_trusted_is_refused_at_every_door(network: Network) -> None:
    host = network.add("n1")
    store = make_store(network.folder / "stranger", lambda: (STRANGER.public,))
    digest = put_image(store, key=STRANGER)
    signed = store.signed(digest)
    assert signed is not None
    with pytest.raises(ImageUntrusted):
        await host.spread.accept(digest, signed)
    with pytest.raises(ImageError, match="not that of image"):
        await host.spread.accept("0" * 64, signed)
    with pytest.raises(ImageError, match="no image on this member"):
        await host.spread.accept_chunk("1" * 64, b"")
    with pytest.raises(ImageError):
        await host.spread.ready(digest)


async def test_a_peers_untrusted_manifest_is_refused_and_said_so(network: Network) -> None:
    host, liar = network.add("n1"), network.add("n2")
    liar.trusted.add(STRANGER.public)
    digest = put_image(liar.store, key=STRANGER)
    network.publish(digest)
    await eventually(lambda: "trust" in host.spread.why_not(digest))
    assert await host.spread.signed(digest) is None
    allocation = make_allocation("web", "n1", image=ImageReference("web", digest))
    reading = host.spread.readings([allocation])[digest]
    assert reading.hopeless
    assert f"sappers-deploy image trust add {STRANGER.public}" in reading.reason


async def test_a_key_that_is_trusted_no_more_takes_its_images_along(network: Network) -> None:
    host = network.add("n1")
    _, digest, _ = await publish_on(host, network)
    host.trusted.clear()
    network.state = msgspec.structs.replace(
        network.state, image_keys=(ImageKey(STRANGER.public, "x"),)
    )
    host.spread.follow(network.state, caught_up=True)
    assert await host.spread.signed(digest) is None
    assert await host.spread.chunks_here(digest, 0, 0.0) is None
    with pytest.raises(ImageUntrusted):
        await host.spread.ready(digest)


async def test_a_full_disk_is_said_and_tried_again(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.agent.images.distributor.DISK_REST_SECONDS", 0.2)
    first = network.add("n1")
    _, digest, _ = await publish_on(first, network)
    second = network.add("n2")
    write = second.store.write_chunk
    full = True

    def refuse(chunk: str, frame: bytes) -> None:
        if full:
            try:
                raise OSError(28, "No space left on device")
            except OSError as error:
                raise ImageError("no room for an image in /x") from error
        write(chunk, frame)

    monkeypatch.setattr(second.store, "write_chunk", refuse)
    await eventually(lambda: "no room" in second.spread.why_not(digest))
    allocation = make_allocation("web", "n2", image=ImageReference("web", digest))
    assert second.spread.readings([allocation])[digest].hopeless
    full = False
    await eventually(lambda: second.whole(digest))
    assert second.spread.why_not(digest) == ""


async def test_a_disk_without_room_for_a_manifest_is_said_once_and_is_no_fault_of_others(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.agent.images.manifest_search.AGAIN_SECONDS_MAX", 0.01)
    first = network.add("n1")
    _, digest, _ = await publish_on(first, network)
    second = network.add("n2")
    write = second.store.put_signed
    refusals, full = 0, True

    def refuse(signed: SignedManifest) -> str:
        nonlocal refusals
        if full:
            refusals += 1
            raise ImageError("no room for an image in /x") from OSError(28, "No space left")
        return write(signed)

    monkeypatch.setattr(second.store, "put_signed", refuse)
    with capture_logs() as said:
        await eventually(lambda: refusals >= 3)
    assert [one["event"] for one in said if "no room" in str(one)] == ["image not stored"]
    assert second.spread.why_not(digest) == "no room for an image in /x"
    allocation = make_allocation("web", "n2", image=ImageReference("web", digest))
    assert second.spread.readings([allocation])[digest].hopeless
    full = False
    await eventually(lambda: second.whole(digest))
    assert second.spread.why_not(digest) == ""


async def test_a_wait_for_news_ends_when_a_chunk_comes(network: Network) -> None:
    host = network.add("n1")
    source, digest, manifest = build(network)
    asked = asyncio.create_task(host.spread.chunks_here(digest, 0, 10.0))
    await hand_over(host, source, digest, manifest.chunks()[:1])
    here = await asked  # the manifest came, then a chunk
    assert here is not None
    assert here.chunks(manifest.chunks()) == {manifest.chunks()[0]}
    began = time.monotonic()
    here = await host.spread.chunks_here(digest, here.count, 0.2)
    assert here is not None
    assert here.count == 1
    assert time.monotonic() - began > 0.15


async def test_a_member_that_answers_without_news_is_not_asked_all_the_time(
    network: Network,
) -> None:
    one, other = network.add("n1"), network.add("n2")
    source, digest, manifest = build(network)
    network.publish(digest)
    network.hasty = {"n1", "n2"}
    await hand_over(one, source, digest, manifest.chunks()[:1])
    await eventually(lambda: other.spread.held(digest)[0] == 1)
    before, began = network.questions, time.monotonic()
    await eventually(lambda: time.monotonic() - began > 2.5)
    assert network.questions - before <= 8  # two members, once a second
    await hand_over(one, source, digest, manifest.chunks()[1:])
    await eventually(lambda: other.whole(digest))


async def test_a_reading_says_how_far_it_is(network: Network) -> None:
    host = network.add("n1")
    source, digest, manifest = build(network)
    allocation = make_allocation("web", "n1", image=ImageReference("web", digest))
    assert "its manifest is not here" in host.spread.readings([allocation])[digest].reason
    host.spread.readings([])
    await hand_over(host, source, digest, manifest.chunks()[:3])
    reading = host.spread.readings([allocation])[digest]
    assert reading.reason.startswith(f"image web: 3 of {len(manifest.chunks())} chunks")
    assert not reading.hopeless
