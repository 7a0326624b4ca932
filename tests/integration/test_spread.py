"""Images among real agents: what one of them got, all of them have, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sappers.api.chunk_calls import ChunkCalls
from sappers.api.image_calls import ImageCalls
from sappers.api.wire import WantedImage, WantedWorkload
from sappers.config import StateFolder
from sappers.errors import ApiError, SappersError
from sappers.images.store import FolderImageStore
from sappers.model.image import CHUNK_BYTES
from tests.image_stores import KEY, STRANGER, damage, make_store, put_image
from tests.integration.agents import WHOLE_SECONDS, Agents
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)


class Lab:
    """Agents, and the control machine's images."""

    def __init__(self, folder: Path, agents: Agents) -> None:
        self.agents = agents
        self.store = make_store(folder / "control")
        self.calls = ImageCalls(agents.client)
        self.chunks = ChunkCalls(agents.operator)

    def build(self, mebibytes: int) -> str:
        return put_image(self.store, initrd=os.urandom(mebibytes * CHUNK_BYTES))

    def order(self, digest: str) -> tuple[str, ...]:
        manifest = self.store.manifest(digest)
        assert manifest is not None
        return manifest.chunks()

    def put(self, name: str, digest: str) -> None:
        signed = self.store.signed(digest)
        assert signed is not None
        self.calls.put_at(self.agents.at(name), digest, signed)

    def send(self, name: str, chunks: Iterable[str]) -> None:
        for chunk in chunks:
            frame = self.store.read_chunk(chunk)
            assert frame is not None
            self.chunks.put(self.agents.at(name).peer, chunk, frame)

    def held(self, name: str, digest: str) -> int:
        try:
            here = self.calls.chunks_at(self.agents.at(name), digest)
        except SappersError:
            return -1
        return here.count if here else 0

    def is_whole(self, digest: str, *names: str) -> bool:
        return all(self.held(name, digest) == len(self.order(digest)) for name in names)

    def store_of(self, name: str) -> FolderImageStore:
        return make_store(StateFolder(self.agents.folder / name).images)

    def metric(self, name: str, metric: str) -> float:
        text = self.agents.client.call_at(self.agents.at(name), "GET", "/metrics").decode()
        found = re.search(rf"^{metric} (\S+)$", text, re.MULTILINE)
        assert found, text
        return float(found[1])


@pytest.fixture
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    images = getattr(request, "param", {})
    names = ["n1", "n2", "n3"]
    agents = Agents(tmp_path, names, bootstrap=2, images=images)
    one = Lab(tmp_path, agents)
    yield one
    one.chunks.close()
    agents.close()
    asyncio.run(agents.sweep())


def leads(lab: Lab) -> bool:
    view = lab.agents.view()
    return view is not None and view.has_quorum


def test_two_halves_become_wholes_a_late_member_gets_it_and_damage_is_mended(lab: Lab) -> None:
    lab.agents.start("n1", "n2")
    wait_until("two members and a leader", lambda: leads(lab), WHOLE_SECONDS)
    digest = lab.build(24)
    chunks = lab.order(digest)
    lab.put("n1", digest)
    lab.send("n1", chunks[::2])
    wait_until("the other one knows the image", lambda: lab.held("n2", digest) > 0)
    lab.send("n2", chunks[1::2])
    wait_until("both have all of it", lambda: lab.is_whole(digest, "n1", "n2"))

    lab.agents.start("n3")
    wait_until("the late one has it, too", lambda: lab.is_whole(digest, "n3"), WHOLE_SECONDS)
    lab.store_of("n3").verify(digest)
    assert lab.metric("n3", "sappers_image_bytes_received_total") == 0
    wait_until("status shows it", lambda: _images_whole(lab) == [1, 1, 1])

    torn = chunks[5]
    damage(StateFolder(lab.agents.folder / "n2").images / "chunks" / torn[:2] / torn, b"torn")
    with pytest.raises(ApiError, match="no chunk"):
        lab.chunks.get(lab.agents.at("n2").peer, torn)
    wait_until("it is whole again", lambda: lab.is_whole(digest, "n2"))
    assert lab.chunks.get(lab.agents.at("n2").peer, torn) == lab.store.read_chunk(torn)


def _images_whole(lab: Lab) -> list[int | None]:
    view = lab.agents.view()
    return [member.images_whole for member in view.members] if view else []


def test_what_is_not_signed_for_this_cluster_is_refused_at_every_door(lab: Lab) -> None:
    lab.agents.start("n1", "n2")
    wait_until("two members and a leader", lambda: leads(lab), WHOLE_SECONDS)
    foreign = make_store(lab.agents.folder / "stranger", lambda: (STRANGER.public,))
    digest = put_image(foreign, key=STRANGER)
    signed, manifest = foreign.signed(digest), foreign.manifest(digest)
    assert signed is not None
    assert manifest is not None
    with pytest.raises(ApiError) as caught:
        lab.calls.put(digest, signed)
    assert caught.value.status == 403
    frame = foreign.read_chunk(manifest.chunks()[0])
    assert frame is not None
    with pytest.raises(ApiError, match="no image on this member"):
        lab.chunks.put(lab.agents.at("n1").peer, manifest.chunks()[0], frame)
    with pytest.raises(ApiError) as caught:
        lab.agents.client.put_workload("x", WantedWorkload(WantedImage("foreign", digest)))
    assert caught.value.status == 409
    assert caught.value.hint == "sappers-deploy image push foreign"

    good = lab.build(1)
    lab.put("n1", good)
    chunk, other = lab.order(good)[:2]
    frame = lab.store.read_chunk(other)
    assert frame is not None
    with pytest.raises(ApiError) as caught:  # content of another chunk
        lab.chunks.put(lab.agents.at("n1").peer, chunk, frame)
    assert caught.value.status == 400
    assert not lab.store_of("n1").has_chunk(chunk)
    # A changed byte makes it another image's manifest, and a false signature.
    changed = msgspec.structs.replace(
        signed, manifest=lab.store.signed(good).manifest.replace(b"web", b"wab")
    )
    for claimed in (good, hashlib.sha256(changed.manifest).hexdigest()):
        with pytest.raises(ApiError):
            lab.calls.put(claimed, changed)


@pytest.mark.parametrize(
    "lab", [{"n3": {"download_mbit_per_second": 20.0, "downloads_at_once": 2}}], indirect=True
)
def test_a_member_killed_while_it_fetches_goes_on_where_it_was(lab: Lab) -> None:
    lab.agents.start()
    wait_until("three members on one index", lab.agents.is_whole, WHOLE_SECONDS)
    digest = lab.build(24)
    lab.put("n1", digest)
    lab.send("n1", lab.order(digest))
    wait_until("it has a third", lambda: lab.held("n3", digest) >= 8)
    lab.agents.kill("n3")
    had = len(lab.order(digest)) - len(lab.store_of("n3").missing_chunks(digest))
    assert 8 <= had < 24
    lab.agents.start("n3")
    wait_until("it has all of it", lambda: lab.is_whole(digest, "n3"), WHOLE_SECONDS)
    fetched = lab.metric("n3", "sappers_image_bytes_fetched_total")
    assert fetched <= (len(lab.order(digest)) - had + 1) * 1.01 * CHUNK_BYTES
    lab.store_of("n3").verify(digest)


@pytest.mark.parametrize(
    "lab", [{"n1": {"uploads_at_once": 2, "upload_mbit_per_second": 80.0}}], indirect=True
)
def test_uploads_are_bounded_and_slow_but_all_get_it(lab: Lab) -> None:
    lab.agents.start("n1", "n2")
    wait_until("two members and a leader", lambda: leads(lab), WHOLE_SECONDS)
    digest = lab.build(16)
    lab.put("n1", digest)
    chunks = lab.order(digest)
    lab.send("n1", chunks)
    deadline = time.monotonic() + WHOLE_SECONDS

    def ask(chunk: str) -> int:
        try:
            lab.chunks.get(lab.agents.at("n1").peer, chunk)
        except ApiError as error:
            return error.status
        return 200

    # The other member fetches, too: at times it has both places, and all of a round are refused.
    answers: list[int] = []
    with ThreadPoolExecutor(12) as pool:
        while {200, 503} - set(answers):
            answers += pool.map(ask, chunks[:12])
            assert time.monotonic() < deadline, f"answers: {Counter(answers)}"
    assert lab.metric("n1", "sappers_image_uploads_refused_total") >= answers.count(503)
    wait_until("the other one has it all the same", lambda: lab.is_whole(digest, "n2"))


def test_an_image_is_removed_and_a_key_changed(lab: Lab) -> None:
    lab.agents.start("n1", "n2")
    wait_until("two members and a leader", lambda: leads(lab), WHOLE_SECONDS)
    digest = lab.build(1)
    lab.put("n1", digest)
    wait_until("whoever answers knows of it", lambda: bool(lab.calls.images().images))
    (held,) = lab.calls.images().images
    assert (held.image.name, held.image.kind) == ("web", "microvm")
    lab.agents.client.put_workload("x", WantedWorkload(WantedImage("web", digest), count=0))
    with pytest.raises(ApiError, match="in use: x") as used:
        lab.calls.remove(digest)
    assert "sappers-deploy stop NAME" in (used.value.hint or "")
    lab.agents.client.delete_workload("x")
    lab.calls.remove(digest)
    wait_until("it is gone", lambda: lab.calls.images().images == ())
    # The founding entry brings the settings' keys; all of the above may have been quicker.
    wait_until(
        "the key is the cluster's",
        lambda: [key.key for key in lab.calls.keys().keys] == [KEY.public],
    )
    with pytest.raises(ApiError, match="last one"):
        lab.calls.distrust(KEY.public)
