"""The HTTP API on real TLS sockets, asked by the clients that agents and operators use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest
import structlog

from sappers.agent.clock import SystemClock
from sappers.api import server as server_module
from sappers.api.catching_up import state_at_least
from sappers.api.chunk_calls import ChunkCalls
from sappers.api.client import HttpPeerClient
from sappers.api.https_calls import Peer
from sappers.api.image_calls import ImageCalls
from sappers.api.operator_client import OperatorClient
from sappers.api.progress import Progress
from sappers.api.server import ApiServer
from sappers.api.ways import Endpoint, Reached
from sappers.api.wire import WantedImage, WantedWorkload
from sappers.errors import (
    ApiError,
    MemberUnreachable,
    NoQuorum,
    OutcomeUnknown,
    ProposalRejected,
)
from sappers.model.codec import decode_state
from sappers.model.commands import (
    Entry,
    NoOperation,
    Proposal,
    RegisterMember,
    encode_proposal,
)
from sappers.model.image import CHUNK_BYTES, ClusterImage
from sappers.model.member import Member
from sappers.model.policy import ImageSettings
from sappers.model.view import Genesis
from sappers.ports import Applied
from sappers.security.authority import create_authority
from sappers.security.tls import Identity, client_context
from tests.fake_member import FakeMember, make_allocation, make_member
from tests.identities import make_cluster_identities, make_operator_identity
from tests.image_stores import make_store, put_image
from tests.unit.worlds import with_allocations
from tests.waiting import eventually


class Cluster:
    """One served member `n1`, an agent `n2` and an operator who call it."""

    def __init__(self, folder: Path) -> None:
        authority = create_authority("test")
        identities = make_cluster_identities(folder, ["n1", "n2"], authority=authority)
        self.operator = make_operator_identity(folder, authority)
        self.agent: Identity = identities["n2"]
        (folder / "images").mkdir()
        self.member = FakeMember("n1", folder / "images")
        self.server = ApiServer(
            self.member,
            identities["n1"],
            "127.0.0.1",
            0,
            clock=SystemClock(),
            refusals=self.member.refusals,
        )

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("n1", "127.0.0.1", self.server.port, "n1")

    @property
    def as_member(self) -> Member:
        return make_member("n1", http_port=self.server.port)

    def http(self, identity: Identity) -> httpx.AsyncClient:
        url = f"https://127.0.0.1:{self.server.port}"
        return httpx.AsyncClient(verify=client_context(identity), base_url=url, trust_env=False)

    async def operate(self, do):
        def run():
            with OperatorClient(self.operator, [self.endpoint]) as client:
                return do(client)

        return await asyncio.to_thread(run)

    def keep_image(self) -> str:
        """An image that the cluster has; its digest."""
        digest = put_image(self.member.store, "hello")
        image = ClusterImage("hello", digest, "microvm", 12, 1.0)
        state = self.member.log.current
        images = state.images.set(digest, image)
        self.member.log.current = msgspec.structs.replace(state, images=images)
        return digest


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    one = Cluster(tmp_path)
    await one.server.start()
    yield one
    await one.server.stop()


def operation(request_id: str = "r1") -> Proposal:
    return Proposal(request_id, "n2", 1.0, (NoOperation(),))


async def test_a_workload_is_put_seen_and_deleted(cluster: Cluster) -> None:
    wanted = WantedWorkload(WantedImage("hello", cluster.keep_image()), guest_port=8080)

    written = await cluster.operate(lambda client: client.put_workload("web", wanted))
    assert written.index == cluster.member.log.state().index
    (workload,) = await cluster.operate(lambda client: client.workloads().workloads)
    assert (workload.name, workload.guest_port, workload.count) == ("web", 8080, 1)
    assert (await cluster.operate(lambda client: client.view())).workloads == (workload,)
    events = (await cluster.operate(lambda client: client.events())).events
    assert [event.kind for event in events] == ["workload.created"]

    await cluster.operate(lambda client: client.delete_workload("web"))
    assert await cluster.operate(lambda client: client.workloads().workloads) == ()
    with pytest.raises(ApiError, match="no workload web") as caught:
        await cluster.operate(lambda client: client.delete_workload("web"))
    assert caught.value.status == 404
    assert caught.value.hint


async def test_an_image_that_the_cluster_lacks_is_refused_with_what_to_do(
    cluster: Cluster,
) -> None:
    wanted = WantedWorkload(WantedImage("hello", "0" * 64))
    with pytest.raises(ApiError, match="the cluster has no image hello") as caught:
        await cluster.operate(lambda client: client.put_workload("web", wanted))
    assert caught.value.status == 409
    assert caught.value.hint == "sappers-deploy image push hello"
    assert not cluster.member.log.state().workloads


async def test_a_port_that_the_agents_need_is_refused(cluster: Cluster) -> None:
    wanted = WantedWorkload(WantedImage("hello", cluster.keep_image()), guest_port=80)
    taken = msgspec.structs.replace(wanted, host_port=cluster.as_member.ports.hub)
    with pytest.raises(ApiError, match=r"\$\.host_port: port .* is the agents' own") as caught:
        await cluster.operate(lambda client: client.put_workload("web", taken))
    assert caught.value.status == 400
    assert await cluster.operate(lambda client: client.workloads().workloads) == ()


async def test_an_idempotency_key_stands_for_one_write(cluster: Cluster) -> None:
    body = {"image": {"name": "hello", "digest": cluster.keep_image()}}
    counts = cluster.member.log.state
    async with cluster.http(cluster.operator) as http:

        async def put(count: int, key: str) -> int:
            answer = await http.put(
                "/v1/workloads/web",
                json=body | {"count": count},
                headers={"idempotency-key": key},
                extensions=SNI,
            )
            assert answer.status_code == 200
            return counts().workloads["web"].count

        assert await put(1, "first") == 1
        assert await put(3, "second") == 3
        assert await put(1, "first") == 3  # a retry that comes late changes nothing
        assert await put(5, "second") == 5  # another write is another, whatever its key


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "body"),
        (b'{"image": {"name": "hello", "digest": "xyz"}}', "$.image.digest"),
        (b'{"image": {"name": "h", "digest": "%s"}, "count": -1}' % (b"0" * 64), "$.count"),
        (b'{"image": {"name": "h", "digest": "%s"}, "cuont": 1}' % (b"0" * 64), "cuont"),
        (b"[" * 100_000, "body"),
    ],
)
async def test_bad_input_is_400_and_says_where(cluster: Cluster, body: bytes, said: str) -> None:
    async with cluster.http(cluster.operator) as http:
        answer = await http.put("/v1/workloads/web", content=body, extensions=SNI)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert answer.json()["status"] == 400


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events?limit=0",
        "/v1/events?after=-1",
        "/v1/events?after=x",
        "/v1/events?afterr=1",
        "/v1/chunks/..%2fpki%2fkey.pem",
        "/v1/chunks/" + "0" * 64 + "%0a",
        "/v1/images/" + "0" * 64 + "/chunks?wait_seconds=1e9",
        "/v1/images/" + "0" * 64 + "/chunks?seen=-1",
        "/v1/allocations/A%00/log",
    ],
)
async def test_bad_queries_and_paths_are_refused(cluster: Cluster, path: str) -> None:
    async with cluster.http(cluster.operator) as http:
        answer = await http.get(path, extensions=SNI)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]


SNI = {"sni_hostname": "agent.sappers"}


async def test_unknown_calls_get_a_problem_not_a_page(cluster: Cluster) -> None:
    async with cluster.http(cluster.operator) as http:
        missing = await http.get("/v2/nothing", extensions=SNI)
        wrong = await http.post("/v1/health", extensions=SNI)
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert missing.json()["hint"] == "GET /openapi.json lists all calls"
    assert wrong.json()["status"] == 405


async def test_what_is_for_agents_is_closed_to_operators(cluster: Cluster) -> None:
    async with cluster.http(cluster.operator) as http:
        for method, path in [
            ("POST", "/v1/proposals"),
            ("GET", "/v1/log?after=0"),
            ("GET", "/v1/snapshot"),
            ("PUT", "/v1/genesis"),
            ("GET", "/v1/local-log/web-0a1b2c3d"),
        ]:
            answer = await http.request(method, path, extensions=SNI)
            assert answer.status_code == 403, path
            assert "agent" in answer.json()["error"]


async def test_an_agent_proposes_follows_and_founds(cluster: Cluster) -> None:
    client, n1 = HttpPeerClient(cluster.agent), cluster.as_member
    body = encode_proposal(operation())
    said = await client.call(n1, "POST", "/v1/proposals", body=body, timeout_seconds=5)
    assert msgspec.json.decode(said, type=Applied) == Applied(1, 1)

    said = await client.call(n1, "GET", "/v1/log?after=0", timeout_seconds=5)
    assert msgspec.msgpack.decode(said, type=list[Entry]) == cluster.member.log.entries

    snapshot = await client.call(n1, "GET", "/v1/snapshot", timeout_seconds=5)
    assert decode_state(snapshot) == cluster.member.log.state()

    genesis = Genesis("c1", "n2", ("n1", "n2"), {"n1": "127.0.0.1:1", "n2": "127.0.0.1:2"})
    await client.call(n1, "PUT", "/v1/genesis", body=genesis, timeout_seconds=5)
    assert cluster.member.genesis == genesis
    await client.close()


async def test_nobody_proposes_in_anothers_name(cluster: Cluster) -> None:
    client, n1 = HttpPeerClient(cluster.agent), cluster.as_member

    async def propose(request_id: str, proposer: str, by: str) -> None:
        commands = (RegisterMember(make_member(request_id)),)
        proposal = Proposal(request_id, proposer, 1.0, commands, by=by)
        body = encode_proposal(proposal)
        await client.call(n1, "POST", "/v1/proposals", body=body, timeout_seconds=5)

    for proposer, by in (("n9", ""), ("n9", "member/n2"), ("n2", "member/n9"), ("n2", "anna")):
        with pytest.raises(ApiError, match="n2 cannot propose as") as caught:
            await propose("m1", proposer, by)
        assert caught.value.status == 403
    await propose("m1", "n2", "")
    await propose("m2", "n2", "member/n2")
    await propose("m3", "n2", "operator/anna")
    told = [(event.by, event.member_id) for event in cluster.member.log.state().events]
    assert told == [("member/n2", "n2"), ("member/n2", "n2"), ("operator/anna", "n2")]
    await client.close()


async def test_an_operators_wish_carries_its_certificates_name(cluster: Cluster) -> None:
    wanted = WantedWorkload(WantedImage("hello", cluster.keep_image()))
    await cluster.operate(lambda client: client.put_workload("web", wanted))
    (event,) = (await cluster.operate(lambda client: client.events())).events
    assert (event.by, event.member_id) == (f"operator/{cluster.operator.node_id}", "n1")
    story = await cluster.operate(lambda client: client.explain("web"))
    assert story.events == (event,)
    with pytest.raises(ApiError, match="nothing of the name") as caught:
        await cluster.operate(lambda client: client.explain("nobody"))
    assert caught.value.status == 404


async def test_a_backup_is_taken_by_operators_alone(cluster: Cluster) -> None:
    taken = await cluster.operate(lambda client: client.take_backup())
    assert taken.index == cluster.member.log.state().index
    async with cluster.http(cluster.agent) as http:
        for method, path in (("POST", "/v1/backup"), ("PUT", f"/v1/restore/{'0' * 64}")):
            answer = await http.request(method, path, extensions=SNI, content=b"{}")
            assert answer.status_code == 403
            assert "operator" in answer.json()["error"]


async def test_without_a_quorum_a_backup_is_what_a_member_has(cluster: Cluster) -> None:
    expected = cluster.member.log.state().index
    cluster.member.log.fails_with = ProposalRejected("no leader is known")
    with pytest.raises(ApiError, match="no leader"):
        await cluster.operate(lambda client: client.take_backup())
    n1 = Reached(cluster.endpoint, Peer("n1", "127.0.0.1", cluster.server.port, "n1"))
    taken = await cluster.operate(lambda client: client.take_backup_at(n1))
    assert (taken.index, decode_state(taken.state).index) == (expected, expected)


async def test_answers_on_a_reused_connection_do_not_wait_for_acknowledgements(
    cluster: Cluster,
) -> None:
    client, n1 = HttpPeerClient(cluster.agent), cluster.as_member
    seconds = []
    for _ in range(60):
        started = time.monotonic()
        await client.call(n1, "GET", "/v1/health", timeout_seconds=5)
        seconds.append(time.monotonic() - started)
    # A delayed acknowledgement alone takes 0.04 s, and would come in each but the first calls.
    assert min(seconds[20:]) < 0.035
    await client.close()


async def test_compacted_entries_are_410(cluster: Cluster) -> None:
    cluster.member.log.compacted_to = 7
    client = HttpPeerClient(cluster.agent)
    with pytest.raises(ApiError, match="compacted") as caught:
        await client.call(cluster.as_member, "GET", "/v1/log?after=3", timeout_seconds=5)
    assert caught.value.status == 410
    await client.close()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoQuorum("no leader is known", hint="start more voters"), 503),
        (ProposalRejected("not the leader"), 503),
        (OutcomeUnknown("the leader changed"), 504),
    ],
)
async def test_failed_writes_have_their_status(
    cluster: Cluster, error: Exception, status: int
) -> None:
    cluster.member.log.fails_with = error
    wanted = WantedWorkload(WantedImage("hello", cluster.keep_image()))
    with pytest.raises(ApiError, match=str(error)) as caught:
        await cluster.operate(lambda client: client.put_workload("web", wanted))
    assert caught.value.status == status
    assert isinstance(caught.value, NoQuorum) == (status == 503)


async def test_what_nobody_foresaw_is_500_and_tells_nothing(cluster: Cluster) -> None:
    cluster.member.breaks = True
    async with cluster.http(cluster.operator) as http:
        answer = await http.get("/v1/status", extensions=SNI)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "journalctl" in answer.json()["hint"]


async def test_an_image_is_put_and_its_chunks_travel_and_are_checked(
    cluster: Cluster, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "control")
    digest = put_image(store, initrd=os.urandom(2 * CHUNK_BYTES))
    signed, manifest = store.signed(digest), store.manifest(digest)
    assert signed is not None
    assert manifest is not None
    chunk = manifest.chunks()[1]
    frame = store.read_chunk(chunk)
    assert frame is not None
    assert len(frame) > CHUNK_BYTES  # what does not compress gets longer
    peer = Peer("n1", "127.0.0.1", cluster.server.port, "n1")
    operator, agent = ChunkCalls(cluster.operator), ChunkCalls(cluster.agent)

    with pytest.raises(ApiError, match="no image on this member has chunk") as caught:
        await asyncio.to_thread(operator.put, peer, chunk, frame)
    assert caught.value.status == 400
    await cluster.operate(lambda client: ImageCalls(client).put(digest, signed))
    assert await cluster.operate(lambda client: ImageCalls(client).signed(digest)) == signed
    await asyncio.to_thread(operator.put, peer, chunk, frame)
    await asyncio.to_thread(operator.put, peer, chunk, frame)  # it is there already
    assert await asyncio.to_thread(agent.get, peer, chunk) == frame

    with pytest.raises(ApiError, match="no chunk") as caught:
        await asyncio.to_thread(agent.get, peer, "1" * 64)
    assert caught.value.status == 404
    with pytest.raises(ApiError, match="operator") as caught:
        await asyncio.to_thread(agent.put, peer, chunk, frame)
    assert caught.value.status == 403
    with pytest.raises(ApiError, match="damaged") as caught:
        await asyncio.to_thread(operator.put, peer, manifest.chunks()[2], frame)
    assert caught.value.status == 400
    with pytest.raises(ApiError, match="at most") as caught:
        await asyncio.to_thread(operator.put, peer, chunk, b"x" * (CHUNK_BYTES + 100_000))
    assert caught.value.status == 413

    (held,) = (await cluster.operate(lambda client: ImageCalls(client).images())).images
    assert (held.image.name, held.chunks_here, held.chunks) == ("web", 1, len(manifest.chunks()))
    member = Reached(cluster.endpoint, peer)
    with pytest.raises(ApiError, match="chunks") as caught:
        await cluster.operate(lambda client: ImageCalls(client).warm_at(member, digest))
    assert caught.value.status == 409
    operator.close()
    agent.close()


async def test_a_full_member_says_so_and_when_to_come_again(cluster: Cluster) -> None:
    digest = cluster.keep_image()
    manifest = cluster.member.store.manifest(digest)
    assert manifest is not None
    (chunk, *_) = manifest.chunks()
    at_once = ImageSettings().uploads_at_once
    async with contextlib.AsyncExitStack() as taken:
        for _ in range(at_once):
            await taken.enter_async_context(cluster.member.images.uploading())
        async with cluster.http(cluster.operator) as http:
            answer = await http.get(f"/v1/chunks/{chunk}", extensions=SNI)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
    async with cluster.http(cluster.operator) as http:
        for _ in range(2 * at_once):  # a slot is free again after each
            answer = await http.get(f"/v1/chunks/{chunk}", extensions=SNI)
            assert answer.status_code == 200


async def test_a_guest_log_and_its_absence(cluster: Cluster) -> None:
    allocation = make_allocation("web", "n1")
    cluster.member.serial_logs[allocation.id] = "booting\nready\n"
    with pytest.raises(ApiError, match="no allocation") as caught:
        await cluster.operate(lambda client: client.guest_log(allocation.id, 100))
    assert caught.value.status == 404

    state = cluster.member.log.current
    cluster.member.log.current = with_allocations(state, allocation)
    assert await cluster.operate(lambda client: client.guest_log(allocation.id, 6)) == "ready\n"

    elsewhere = msgspec.structs.replace(allocation, member_id="n9")
    cluster.member.log.current = with_allocations(state, elsewhere)
    client = HttpPeerClient(cluster.agent)
    path = f"/v1/local-log/{allocation.id}"
    with pytest.raises(ApiError, match="not a guest of this member"):
        await client.call(cluster.as_member, "GET", path, timeout_seconds=5)
    await client.close()


async def test_metrics_and_description(cluster: Cluster) -> None:
    async with cluster.http(cluster.operator) as http:
        metrics = await http.get("/metrics", extensions=SNI)
        document = (await http.get("/openapi.json", extensions=SNI)).json()
        state = (await http.get("/v1/state", extensions=SNI)).json()
    assert 'sappers_members{state="alive"} 1.0' in metrics.text
    assert "sappers_hub_connected 1.0" in metrics.text
    assert "sappers_raft_leader 1.0" in metrics.text
    assert document["openapi"].startswith("3.1")
    put = document["paths"]["/v1/workloads/{name}"]["put"]
    assert put["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "Wanted" + "Workload"
    )
    assert set(document["components"]["schemas"]["ClusterState"]["properties"]) == set(state)


async def test_strangers_are_not_let_in(cluster: Cluster, tmp_path: Path) -> None:
    other = make_operator_identity(tmp_path / "other", create_authority("other"))
    with pytest.raises(MemberUnreachable, match="certificate"):
        await asyncio.to_thread(OperatorClient(other, [cluster.endpoint]).view)

    anonymous = ssl.create_default_context(cafile=str(cluster.operator.ca))
    async with httpx.AsyncClient(verify=anonymous, trust_env=False) as http:
        with pytest.raises(httpx.TransportError):
            await http.get(f"https://127.0.0.1:{cluster.server.port}/v1/health", extensions=SNI)


async def test_a_member_under_another_name_is_not_spoken_to(cluster: Cluster) -> None:
    client = HttpPeerClient(cluster.agent)
    impostor = msgspec.structs.replace(cluster.as_member, id="n3", name="n3")
    with pytest.raises(MemberUnreachable, match="n3"):
        await client.call(impostor, "GET", "/v1/health", timeout_seconds=5)
    await client.close()


async def test_unfinished_handshakes_of_one_address_lock_out_nobody(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKES_MAX", 2)
    port = cluster.server.port
    hanging = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    assert await hanging[0][0].read() == b""  # the oldest made room for the third
    await cluster.operate(lambda client: client.view())  # and the next one for a member
    assert await hanging[1][0].read() == b""
    counted = {(one.kind, one.subject): one.count for one in cluster.member.refusals.snapshot()}
    assert counted["crowd", "127.0.0.1"] >= 2
    _, elsewhere = await asyncio.open_connection(
        "127.0.0.1",
        port,
        ssl=client_context(cluster.operator),
        server_hostname="n1",
        local_addr=("127.0.0.9", 0),
    )
    for writer in (elsewhere, *(writer for _, writer in hanging)):
        writer.close()


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 64, b"\x16\x03\x01\x02\x00" + b"x" * 600],
)
async def test_garbage_closes_cleanly_with_one_debug_line(cluster: Cluster, garbage: bytes) -> None:
    with structlog.testing.capture_logs() as lines:
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.server.port)
        writer.write(garbage)
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        writer.close()
        await eventually(lambda: lines)
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("debug", "connection refused")
    ]
    await cluster.operate(lambda client: client.view())  # still answers


async def read_to_end(cluster: Cluster, sent: bytes, *, tls: bool) -> bytes:
    context = client_context(cluster.operator) if tls else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        cluster.server.port,
        ssl=context,
        server_hostname="n1" if tls else None,
    )
    writer.write(sent)
    try:
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                return await reader.read()
        return b""
    finally:
        writer.close()


async def test_slow_peers_are_cut_off(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hasty:
        hasty.setattr(server_module, "HANDSHAKE_SECONDS", 0.2)
        assert await read_to_end(cluster, b"\x16", tls=False) == b""  # never finishes its handshake
    monkeypatch.setattr(server_module, "HEADER_SECONDS", 1.0)
    assert await read_to_end(cluster, b"GET /v1/hea", tls=True) == b""  # nor its headers
    # A second request on one connection is held to the deadline like the first.
    context = client_context(cluster.operator)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", cluster.server.port, ssl=context, server_hostname="n1"
    )
    writer.write(b"GET /v1/health HTTP/1.1\r\nHost: n1\r\n\r\n")
    assert b" 200 " in await reader.readuntil(b"\r\n")
    writer.write(b"GET /v1")
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await reader.read()
    writer.close()


async def test_a_slow_body_is_cut_off(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sappers.api.app.BODY_SECONDS", 0.2)
    head = b"PUT /v1/workloads/web HTTP/1.1\r\nHost: n1\r\nContent-Length: 100\r\n\r\n{"
    assert b" 408 " in await read_to_end(cluster, head, tls=True)


async def test_large_bodies_and_headers_are_refused(cluster: Cluster) -> None:
    async with cluster.http(cluster.operator) as http:
        answer = await http.put(
            "/v1/workloads/web", content=b" " * (1024 * 1024 + 1), extensions=SNI
        )
        assert answer.status_code == 413
    huge = b"GET / HTTP/1.1\r\nHost: n1\r\nX: " + b"x" * 20_000
    assert b" 400 " in await read_to_end(cluster, huge, tls=True)


async def test_one_connection_too_many_is_closed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 1)
    async with cluster.http(cluster.operator) as http:
        await http.get("/v1/health", extensions=SNI)
        assert await read_to_end(cluster, b"", tls=False) == b""


async def test_strangers_of_many_addresses_keep_no_member_out(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 4)
    port = cluster.server.port
    strangers = [
        await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{host}", 0))
        for host in (11, 12, 12, 13)
    ]
    await cluster.operate(lambda client: client.view())
    assert await strangers[1][0].read() == b""  # the first of those who have the most
    for _, writer in strangers:
        writer.close()


async def test_a_taken_port_is_an_error_a_person_understands(cluster: Cluster) -> None:
    second = ApiServer(
        cluster.member,
        cluster.agent,
        "127.0.0.1",
        cluster.server.port,
        clock=SystemClock(),
        refusals=cluster.member.refusals,
    )
    with pytest.raises(ApiError, match="cannot listen on"):
        await second.start()
    await second.stop()


async def test_stop_lets_a_call_finish_and_leaves_no_task(cluster: Cluster) -> None:
    before = asyncio.all_tasks()
    await cluster.operate(lambda client: client.view())
    _, idle = await asyncio.open_connection("127.0.0.1", cluster.server.port)
    await cluster.server.stop()
    await eventually(lambda: asyncio.all_tasks() <= before)
    idle.close()


async def test_stop_does_not_wait_for_peers_that_ask_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.server._server.config, "timeout_graceful_shutdown", 600)
    with OperatorClient(cluster.operator, [cluster.endpoint]) as client:
        await asyncio.to_thread(client.view)
        async with asyncio.timeout(300):
            await cluster.server.stop()


async def test_the_operator_finds_a_living_member_among_dead_ones(cluster: Cluster) -> None:
    dead = Endpoint("n0", "127.0.0.1", 1, "n0")
    with OperatorClient(cluster.operator, [dead, dead, cluster.endpoint]) as client:
        assert (await asyncio.to_thread(client.view)).cluster == "lab"
    with (
        OperatorClient(cluster.operator, [dead]) as client,
        pytest.raises(MemberUnreachable, match=r"n0 .*refused") as caught,
    ):
        await asyncio.to_thread(client.view)
    assert caught.value.hint


async def test_the_operator_goes_through_a_forward_when_the_port_is_closed(
    cluster: Cluster,
) -> None:
    closed: list[str] = []

    @contextlib.contextmanager
    def forward(endpoint: Endpoint):
        yield "127.0.0.1", cluster.server.port
        closed.append(endpoint.name)

    unreachable = Endpoint("n1", "127.0.0.1", 1, "n1")
    with OperatorClient(cluster.operator, [unreachable], open_forward=forward) as client:
        assert (await asyncio.to_thread(client.view)).cluster == "lab"
        assert closed == []
    assert closed == ["n1"]


async def test_the_operator_moves_on_when_its_member_goes_away(
    cluster: Cluster, tmp_path: Path
) -> None:
    spare = Cluster.__new__(Cluster)
    spare.member = cluster.member
    spare.server = ApiServer(
        cluster.member,
        cluster.agent,
        "127.0.0.1",
        0,
        clock=SystemClock(),
        refusals=cluster.member.refusals,
    )  # certificate of n2
    await spare.server.start()
    second = Endpoint("n2", "127.0.0.1", spare.server.port, "n2")
    with OperatorClient(cluster.operator, [cluster.endpoint, second]) as client:
        await asyncio.to_thread(client.view)
        await cluster.server.stop()
        await asyncio.to_thread(client.view)
    await spare.server.stop()


async def test_whoever_answers_has_what_was_written_through_another(
    cluster: Cluster, tmp_path: Path
) -> None:
    behind = FakeMember("n2", tmp_path / "behind")
    server = ApiServer(
        behind, cluster.agent, "127.0.0.1", 0, clock=SystemClock(), refusals=behind.refusals
    )
    await server.start()
    shared = Progress()
    wanted = WantedWorkload(WantedImage("hello", cluster.keep_image()), count=0)
    second = Endpoint("n2", "127.0.0.1", server.port, "n2")
    with (
        OperatorClient(cluster.operator, [cluster.endpoint, second], progress=shared) as client,
        OperatorClient(cluster.operator, [second], progress=shared) as other,
        OperatorClient(cluster.operator, [second]) as stranger,
    ):
        written = await asyncio.to_thread(client.put_workload, "web", wanted)
        await cluster.server.stop()
        reads = [asyncio.create_task(asyncio.to_thread(one.workloads)) for one in (client, other)]
        assert (await asyncio.to_thread(stranger.workloads)).index == 0
        assert not any(read.done() for read in reads)
        behind.log.current = cluster.member.log.current  # it hears of the entry
        for read in reads:
            found = await read
            assert (found.index, found.workloads[0].name) == (written.index, "web")
    await server.stop()


async def test_a_member_that_stays_behind_is_asked_no_more(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.api.app.state_at_least", partial(state_at_least, seconds=0.2))
    behind = FakeMember("n2", tmp_path / "behind")
    server = ApiServer(
        behind, cluster.agent, "127.0.0.1", 0, clock=SystemClock(), refusals=behind.refusals
    )
    await server.start()
    shared, second = Progress(), Endpoint("n2", "127.0.0.1", server.port, "n2")
    wanted = WantedWorkload(WantedImage("hello", cluster.keep_image()), count=0)
    with (
        OperatorClient(cluster.operator, [cluster.endpoint], progress=shared) as writer,
        OperatorClient(cluster.operator, [second, cluster.endpoint], progress=shared) as both,
        OperatorClient(cluster.operator, [second], progress=shared) as alone,
    ):
        assert (await asyncio.to_thread(both.health)).name == "n2"
        written = await asyncio.to_thread(writer.put_workload, "web", wanted)
        assert (await asyncio.to_thread(both.workloads)).index == written.index
        assert (await asyncio.to_thread(both.health)).name == "n1"
        with pytest.raises(ApiError, match="n2 has not caught up with index") as caught:
            await asyncio.to_thread(alone.workloads)
        assert caught.value.status == 504
        assert (await asyncio.to_thread(alone.health)).name == "n2"
    await server.stop()


async def test_members_register_and_events_are_cut_between_entries(cluster: Cluster) -> None:
    commands = tuple(RegisterMember(make_member(f"m{n}")) for n in range(3))
    await cluster.member.log.propose(Proposal("a", "n1", 1.0, commands), 1)
    await cluster.member.log.propose(
        Proposal("b", "n1", 2.0, (RegisterMember(make_member("m9")),)), 1
    )
    all_of_one = await cluster.operate(lambda client: client.events(after=0, limit=1))
    assert [event.subject for event in all_of_one.events] == ["m0", "m1", "m2"]
    rest = await cluster.operate(lambda client: client.events(after=1, limit=10))
    assert [event.subject for event in rest.events] == ["m9"]
    newest = await cluster.operate(lambda client: client.events(limit=1))
    assert [event.subject for event in newest.events] == ["m9"]


async def test_a_snapshot_and_a_log_level_are_for_operators_and_for_the_member_itself(
    cluster: Cluster,
) -> None:
    cluster.keep_image()
    taken = await cluster.operate(lambda client: client.take_snapshot())
    assert taken.index == cluster.member.log.state().index
    await cluster.operate(lambda client: client.set_log_level("DEBUG"))
    assert cluster.member.log_level == "DEBUG"
    with pytest.raises(ApiError, match=r"level") as caught:
        await cluster.operate(lambda client: client.set_log_level("LOUD"))
    assert caught.value.status == 400

    async with cluster.http(cluster.agent) as another:
        for method, path, body in (
            ("POST", "/v1/snapshot", b""),
            ("PUT", "/v1/log-level", b'{"level":"ERROR"}'),
        ):
            answer = await another.request(
                method, path, content=body, extensions={"sni_hostname": "n1"}
            )
            assert answer.status_code == 403, answer.text
            assert "of itself only" in answer.text
    assert cluster.member.log_level == "DEBUG"
