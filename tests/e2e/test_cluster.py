"""A cluster that governs itself: leaders, raft processes, hub, hosts, addresses come and go.

The tests build on one cluster in the order they stand here; each leaves it whole.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import nats
import nats.errors
import pytest

from sappers.api.operator_client import OperatorClient
from sappers.config import ControlHome
from sappers.errors import ApiError, NoQuorum
from sappers.hub.credentials import AgentCredentials, create_hub_account
from sappers.lab.lab import Lab
from sappers.model import subjects
from sappers.model.guest_scope import GuestScope
from sappers.model.member import MemberState
from sappers.model.view import MemberView
from sappers.security.authority import create_authority
from sappers.security.tls import AGENT_SERVER_NAME, client_context
from tests.e2e.conftest import Deploy
from tests.e2e.lab_cluster import LabCluster, no_traceback, one_line, until, write_until
from tests.identities import make_operator_identity

pytestmark = pytest.mark.timeout(900)

# What it takes at rest is measured by `make bench-consensus`; a busy machine takes its time.
FAILOVER_SECONDS = 20.0
PORTS = {"gossip": 7946, "http": 11000, "raft": 12000, "hub": 4222, "routes": 6222}


@pytest.fixture(autouse=True)
def whole(cluster: LabCluster) -> Iterator[None]:
    """Each test finds the cluster whole, as the one before left it, and leaves it whole."""
    yield
    cluster.await_whole()


def await_index(client: OperatorClient, index: int) -> None:
    until(lambda: client.workloads().index >= index, 90, f"it has applied entry {index}")


def others(cluster: LabCluster, host: str) -> list[str]:
    return [name for name in cluster.hosts() if name != host]


# -- the leader ------------------------------------------------------------------------------------


def test_any_member_answers_and_forwards_writes(cluster: LabCluster):
    before = cluster.view().commit_index
    for count, host in enumerate(cluster.hosts()):
        with cluster.client(host) as client:
            written = client.put_workload("parked", cluster.wanted(count=0, port=9000 + count))
            assert written.index > before
            before = written.index
            parked = next(w for w in client.workloads().workloads if w.name == "parked")
            assert parked.guest_port == 9000 + count
            assert json.loads(client.state_json())["index"] >= before
            assert client.events(limit=5).events
    with cluster.client() as client:
        client.delete_workload("parked")


def test_kill_9_of_the_leader_costs_seconds_at_most(cluster: LabCluster, capsys):
    took = []
    for _ in range(2):
        leader = cluster.leader()
        member_id, term = cluster.member_id(leader), cluster.view().term
        pid = cluster.main_pid(leader, "sappers")
        with cluster.client(*others(cluster, leader)) as client:
            client.health()  # connected, as a client that is at work
            killed_at = cluster.kill(leader, pid)
            written_at = write_until(client, "parked", cluster.wanted(count=0), 90)
            view = client.view()
        took.append(written_at - killed_at)
        assert view.leader_id != member_id
        assert view.term > term
        cluster.await_whole()
        assert cluster.member_id(leader) == member_id
        assert cluster.health(leader).role == "follower"
        assert cluster.main_pid(leader, "sappers") not in (0, pid)
    with capsys.disabled():
        print(f"\nfailover: {', '.join(f'{1000 * one:.0f}' for one in took)} ms")
    assert max(took) <= FAILOVER_SECONDS


def test_a_leader_that_hangs_or_is_cut_off_is_replaced(cluster: LabCluster, lab: Lab, capsys):
    """A host that stops where it is, then one that nobody hears; both follow when they are back."""
    took = []
    for silence in ("hangs", "cut off"):
        leader = cluster.leader()
        left = others(cluster, leader)
        with cluster.client(*left) as client, cluster.client(leader) as alone:
            client.health()
            began = time.time()
            try:
                if silence == "hangs":
                    lab.pause_host(leader)
                else:
                    lab.partition([leader], left)
                wanted = cluster.wanted(count=0)
                took.append(write_until(client, "parked", wanted, 90) - began)
                if silence == "cut off":
                    with pytest.raises(ApiError) as refused:
                        alone.put_workload("alone", wanted)
                    assert refused.value.status in (503, 504), "not done, or not known"
                    assert refused.value.hint
            finally:
                lab.resume_host(leader) if silence == "hangs" else lab.mend()
        cluster.await_whole()
        assert cluster.health(leader).role == "follower"
        assert "alone" not in [one.name for one in cluster.view().workloads]
    with capsys.disabled():
        print(f"\nwrite after the leader falls silent: {', '.join(f'{s:.1f}' for s in took)} s")
    assert max(took) <= FAILOVER_SECONDS


def test_a_killed_raft_process_is_brought_back(cluster: LabCluster):
    for host in (cluster.leader(), others(cluster, cluster.leader())[0]):
        agent, raft = cluster.main_pid(host, "sappers"), cluster.raft_pid(host)
        cluster.kill(host, raft)
        until(lambda h=host, r=raft: cluster.raft_pid(h) != r, 90, "another raft process")
        cluster.await_whole()
        assert cluster.main_pid(host, "sappers") == agent


# -- the hub ---------------------------------------------------------------------------------------


def test_a_killed_or_stopped_hub_server_comes_back(cluster: LabCluster):
    first, second = cluster.hosts()[:2]
    pid = cluster.main_pid(first, "sappers-hub")
    cluster.kill(first, pid)
    cluster.run(second, "systemctl stop sappers-hub")
    until(lambda: cluster.main_pid(first, "sappers-hub") not in (0, pid), 90, "another server")
    until(lambda: cluster.main_pid(second, "sappers-hub"), 90, "the stopped server runs")


def test_a_member_whose_pulses_do_not_come_is_suspected_though_gossip_hears_it(
    cluster: LabCluster,
):
    """Nothing that it sends to a hub server arrives, its own among them."""
    leader = cluster.leader()
    host = others(cluster, leader)[0]

    def seen() -> MemberView:
        return next(m for m in cluster.view(leader).members if m.member.name == host)

    mute = "add table inet mute; add chain inet mute out { type filter hook output priority 0; }; "
    cluster.run(host, f"nft {shlex.quote(mute + 'add rule inet mute out tcp dport 4222 drop')}")
    try:
        until(lambda: "pulse" in seen().suspected_by, 150, "it is suspected")
        assert seen().member.state is MemberState.ALIVE
    finally:
        cluster.run(host, "nft delete table inet mute")
    until(lambda: seen().suspected_by == (), 150, "it is trusted again")
    with cluster.client(leader) as client:
        kinds = {one.kind for one in client.events(limit=1000).events}
    assert {"member.suspected", "member.trusted"} <= kinds


def hub_account(cluster: LabCluster) -> AgentCredentials:
    key = cluster.run(cluster.hosts()[0], "cat /var/lib/sappers/hub.key")
    return AgentCredentials((cluster.folder / "hub-account.seed").read_text(), key)


async def on_hub(cluster: LabCluster, host: str, folder: Path, credentials: str, **more):
    """A connection to a host's hub server, as a person or guest would open it."""
    path = folder / f"{uuid.uuid4().hex}.creds"
    path.write_text(credentials)
    trust = ssl.create_default_context(cafile=str(cluster.folder / "ca.pem"))
    return await nats.connect(
        f"tls://{cluster.address(host)}:4222",
        tls=trust,
        tls_hostname=AGENT_SERVER_NAME,
        user_credentials=str(path),
        allow_reconnect=False,
        **more,
    )


def test_committed_changes_are_heard_on_the_hub(cluster: LabCluster, tmp_path: Path):
    async def hear() -> list[tuple[str, bytes]]:
        heard: list[tuple[str, bytes]] = []
        there = asyncio.Event()

        async def receive(message) -> None:
            heard.append((message.subject, message.data))
            if {subjects.event("workload.created"), subjects.ENTRIES} <= dict(heard).keys():
                there.set()

        operator = hub_account(cluster).operator()
        follower = others(cluster, cluster.leader())[0]
        connection = await on_hub(cluster, follower, tmp_path, operator)
        await connection.subscribe("sappers.>", cb=receive)
        await connection.flush()
        with cluster.client(follower) as client:
            await asyncio.to_thread(client.put_workload, "told-of", cluster.wanted(count=0))
            await asyncio.wait_for(there.wait(), 90)
            await asyncio.to_thread(client.delete_workload, "told-of")
        await connection.close()
        return heard

    heard = dict(asyncio.run(hear()))
    assert "told-of" in json.loads(heard[subjects.event("workload.created")])["text"]
    assert subjects.ENTRIES in heard


def test_hub_credentials_allow_no_more_than_they_say(cluster: LabCluster, tmp_path: Path):
    own, other = "guest-00000000", "other-00000000"

    async def refused(credentials: str, subject: str, *, publish: bool) -> None:
        told: asyncio.Queue[str] = asyncio.Queue()

        async def complain(error: Exception) -> None:
            told.put_nowait(str(error))

        host = cluster.hosts()[0]
        connection = await on_hub(cluster, host, tmp_path, credentials, error_cb=complain)
        if publish:
            await connection.publish(subject, b"x")
        else:
            await connection.subscribe(subject)
        await connection.flush()
        assert "permissions violation" in await asyncio.wait_for(told.get(), 90)
        await connection.close()

    async def allowed(credentials: str) -> None:
        connection = await on_hub(cluster, cluster.hosts()[0], tmp_path, credentials)
        heard = await connection.subscribe(f"{subjects.guest(own)}.>")
        await connection.publish(subjects.guest_health(own), b"x")
        await heard.next_msg(90)
        await connection.close()

    scope = GuestScope(own, own.rpartition("-")[0])
    guest = hub_account(cluster).mint(scope, time.time() + 600)
    operator = hub_account(cluster).operator()
    asyncio.run(refused(guest, subjects.guest_health(other), publish=True))
    asyncio.run(refused(guest, subjects.ENTRIES, publish=True))
    asyncio.run(refused(guest, "sappers.>", publish=False))
    asyncio.run(refused(operator, subjects.HEARTBEAT, publish=True))
    asyncio.run(allowed(guest))


def test_strangers_are_kept_out_of_the_hub(cluster: LabCluster, tmp_path: Path):
    stranger = AgentCredentials(create_hub_account("inventory").account_seed).operator()
    with pytest.raises((nats.errors.Error, OSError)):
        asyncio.run(on_hub(cluster, cluster.hosts()[0], tmp_path, stranger))


# -- the API ---------------------------------------------------------------------------------------


def test_the_api_describes_itself_to_those_it_knows_only(cluster: LabCluster, tmp_path: Path):
    host = cluster.hosts()[0]
    with cluster.client(host) as client:
        document = json.loads(client.call("GET", "/openapi.json"))
    assert {"/v1/status", "/v1/workloads/{name}", "/v1/events"} <= document["paths"].keys()

    url = f"https://{cluster.address(host)}:11000/v1/health"
    nameless = ssl.create_default_context(cafile=str(cluster.folder / "ca.pem"))
    nameless.check_hostname = False
    other = make_operator_identity(tmp_path, create_authority(cluster.identity.cluster))
    stranger = client_context(msgspec.structs.replace(other, ca=cluster.folder / "ca.pem"))
    for context in (nameless, stranger):
        with pytest.raises(httpx.TransportError), httpx.Client(verify=context) as client:
            client.get(url, extensions={"sni_hostname": AGENT_SERVER_NAME})


def test_garbage_on_every_port_breaks_nothing(cluster: LabCluster, tmp_path: Path):
    pids = {host: running(cluster, host) for host in voters(cluster)}
    addresses = [cluster.address(host) for host in cluster.hosts()]
    nobody = make_operator_identity(tmp_path, create_authority("x"))
    stranger = client_context(nobody)
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    calls = [
        (send, address, port)
        for address in addresses
        for port in PORTS.values()
        for send in (noise, plain_http, half_a_tls_record, silence, stranger_in_tls(stranger))
    ]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda call: call[0](call[1], call[2]), calls))
    for address in addresses:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            for size in (0, 1, 16, 100, 1400) * 20:
                datagrams.sendto(os.urandom(size), (address, PORTS["gossip"]))
    cluster.await_whole()
    assert {host: running(cluster, host) for host in pids} == pids
    for host in cluster.hosts():
        no_traceback("\n".join(line for _, line in cluster.journal(host)))


def running(cluster: LabCluster, host: str) -> tuple[int, ...]:
    """The processes that strangers can reach."""
    units = ("sappers", "sappers-hub")
    return (*(cluster.main_pid(host, unit) for unit in units), cluster.raft_pid(host))


def noise(address: str, port: int) -> None:
    exchange(address, port, os.urandom(64 * 1024))


def plain_http(address: str, port: int) -> None:
    answer = exchange(address, port, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " not in answer.partition(b"\r\n")[0]


def half_a_tls_record(address: str, port: int) -> None:
    exchange(address, port, bytes.fromhex("16030102000100"))


def silence(address: str, port: int) -> None:
    exchange(address, port, b"")


def exchange(address: str, port: int, content: bytes) -> bytes:
    """What comes back; being cut off is an answer too."""
    try:
        with socket.create_connection((address, port), 2) as connection:
            connection.settimeout(0.3)
            connection.sendall(content)
            return connection.recv(4096)
    except OSError:
        return b""


def stranger_in_tls(context: ssl.SSLContext) -> Callable[[str, int], None]:
    """Somebody with a certificate of another authority, who does not care who we are."""

    def send(address: str, port: int) -> None:
        try:
            with (
                socket.create_connection((address, port), 2) as plain,
                context.wrap_socket(plain, server_hostname=AGENT_SERVER_NAME) as connection,
            ):
                connection.settimeout(0.3)
                connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
                assert not connection.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            pass

    return send


# -- status ----------------------------------------------------------------------------------------


def test_status_as_text_and_as_json_from_any_member(cluster: LabCluster, deploy: Deploy):
    def tells_all() -> bool:
        text = deploy("status")
        assert text.returncode == 0, text.stderr
        words = "leader", "term", "quorum", "hub", "nothing needs a person"
        for expected in (*cluster.hosts(), *words):
            assert expected in text.stdout, text.stdout
        assert "tcg on" in text.stdout or "kvm on" in text.stdout
        return True

    until(tells_all, 90, "status says that all is well")
    for host in cluster.hosts():
        one = deploy("status", "-o", "json", "--addr", f"{cluster.address(host)}:11000")
        view = json.loads(one.stdout)
        assert view["answered_by"] == cluster.member_id(host)
        assert view["has_quorum"] is True


def test_status_watch_tells_changes_until_it_is_interrupted(cluster: LabCluster, home: ControlHome):
    program = Path(sys.executable).with_name("sappers-deploy")
    with subprocess.Popen(
        [program, "status", "--watch", "-o", "json"],
        env=os.environ | {"SAPPERS_HOME": str(home.data), "SAPPERS_CACHE": str(home.cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        with cluster.client() as client:
            client.put_workload("watched", cluster.wanted(count=0))
            second = json.loads(watching.stdout.readline())
            while "watched" not in [one["name"] for one in second["workloads"]]:
                second = json.loads(watching.stdout.readline())
            client.delete_workload("watched")
        watching.send_signal(2)
        watching.communicate(timeout=120)
    assert second["commit_index"] > first["commit_index"]
    assert watching.returncode == 130


# -- hosts -----------------------------------------------------------------------------------------


def test_a_fourth_host_follows_from_a_snapshot(cluster: LabCluster, lab: Lab, deploy: Deploy):
    electorate = cluster.view().electorate
    newcomer = lab.up(4).hosts[3].name
    done = deploy("bootstrap", str(lab.inventory))
    assert done.returncode == 0, done.stdout + done.stderr
    cluster.await_whole()
    health = cluster.health(newcomer)
    assert health.role == "none"
    assert health.hub == "-"
    assert cluster.view(newcomer).electorate == electorate
    assert any("started from a snapshot" in line for _, line in cluster.journal(newcomer))
    with cluster.client(newcomer) as client:
        written = client.put_workload("forwarded", cluster.wanted(count=0))
        await_index(client, written.index)
        client.delete_workload("forwarded")


def test_a_host_comes_back_at_a_new_address_as_itself(cluster: LabCluster, lab: Lab):
    host = others(cluster, cluster.leader())[0]
    member_id, new = cluster.member_id(host), cluster.new_address()
    moves(cluster, lab, host, new)
    assert cluster.member_id(host) == member_id
    view = cluster.view()
    (member,) = (one.member for one in view.members if one.member.name == host)
    assert (member.id, member.address) == (member_id, new)

    def all_know() -> bool:
        for other in cluster.hosts():
            known = cluster.view(other).members
            assert next(one.member.address for one in known if one.member.id == member_id) == new
        return True

    until(all_know, 90, "gossip has told everybody")


def test_a_leader_moves_and_may_lead_again(cluster: LabCluster, lab: Lab):
    host = cluster.leader()
    moves(cluster, lab, host, cluster.new_address())
    for other in voters(cluster):
        if other != host:
            cluster.run(other, "systemctl restart sappers")
            cluster.await_whole()


def voters(cluster: LabCluster) -> list[str]:
    view = cluster.view()
    return [one.member.name for one in view.members if one.member.id in view.electorate]


def moves(cluster: LabCluster, lab: Lab, host: str, address: str) -> None:
    """Power cut, and back at another address; the cluster is whole, over all its connections."""
    lab.kill_host(host)
    lab.start_host(host, address=address)
    cluster.await_whole()
    until(lambda: hub_is_full_mesh(cluster), 150, "each hub server has routes to all others")


def hub_is_full_mesh(cluster: LabCluster) -> bool:
    """Whether each hub server has a connection with each other one, by what the kernel says."""
    servers = {host: cluster.address(host) for host in voters(cluster)}
    for host, address in servers.items():
        peers = cluster.run(host, "ss -Htn state established '( sport = 6222 or dport = 6222 )'")
        missing = [one for one in servers.values() if one != address and f"{one}:" not in peers]
        assert not missing, f"{host} has no route to {missing}: {peers}"
    return True


def test_without_quorum_nothing_is_promised_and_then_it_goes_on(
    cluster: LabCluster, lab: Lab, deploy: Deploy
):
    leader = cluster.leader()
    left, other = (host for host in voters(cluster) if host != leader)
    gone = [other, leader]
    index = cluster.view().commit_index
    try:
        for host in gone:
            lab.kill_host(host)
        address = f"{cluster.address(left)}:11000"

        def says_so() -> bool:
            told = deploy("status", "--addr", address)
            assert told.returncode == 5, told
            words = one_line(told.stdout)
            assert "quorum is lost: 1 of 3 voters are here, 2 are needed" in words
            assert all(host in words.partition("start sappers on")[2] for host in gone)
            return True

        until(says_so, 150, "status says what to do")
        with cluster.client(left) as client, pytest.raises(NoQuorum) as refused:
            client.put_workload("lost", cluster.wanted(count=0))
        assert refused.value.hint
        stop = deploy("stop", "parked", "--addr", address)
        assert stop.returncode == 5, stop
        no_traceback(stop.stderr)
    finally:
        lab.up()
    assert cluster.await_whole().commit_index > index
    with cluster.client() as client:
        assert "lost" not in [one.name for one in client.workloads().workloads]


# -- logs ------------------------------------------------------------------------------------------


def test_the_unit_is_watched_restarted_and_hardened(cluster: LabCluster):
    host = cluster.hosts()[0]
    shown = cluster.run(host, "systemctl show sappers")
    unit = dict(line.partition("=")[::2] for line in shown.splitlines())
    assert (unit["Type"], unit["Restart"]) == ("notify", "on-failure")
    assert unit["WatchdogUSec"] not in ("0", "infinity")
    assert unit["UnitFileState"] == "enabled"
    for setting in ("NoNewPrivileges", "PrivateTmp", "ProtectKernelModules", "RestrictNamespaces"):
        assert unit[setting] not in ("no", ""), setting
    assert unit["ProtectSystem"] == "strict"


def test_each_line_of_the_logs_is_json_with_member_term_and_index(cluster: LabCluster):
    for host in cluster.hosts():
        lines = cluster.journal(host)
        assert lines
        for _, line in lines:
            entry = json.loads(line)
            assert {"member", "term", "index", "event", "level", "timestamp"} <= entry.keys(), line
            no_traceback(line)
