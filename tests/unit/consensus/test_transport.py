"""Links between voters on loopback, with certificates."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from pysyncobj.node import Node

from sappers.config import RaftSettings
from sappers.consensus.framing import frame
from sappers.consensus.transport import PeerTransport
from sappers.consensus.wire import Hello
from sappers.security.tls import client_context, server_context
from tests.identities import make_cluster_identities
from tests.loopback import free_port
from tests.waiting import eventually


async def test_voters_know_of_each_other_whether_they_answer_probes(tmp_path: Path) -> None:
    names = ("v1", "v2", "v3")
    addresses = {name: f"127.0.0.1:{free_port()}" for name in names}
    made = make_cluster_identities(tmp_path, list(names))
    voters = {
        name: PeerTransport(
            name, "c1", addresses, made[name], RaftSettings(), lambda: None, lambda _: None
        )
        for name in names
    }
    old = voters["v3"]  # one of an older version names no protocol
    old._server_context, old._client_context = (
        server_context(made["v3"]),
        client_context(made["v3"]),
    )
    for name, voter in voters.items():
        for other in names:
            if other != name:
                voter.addNode(Node(other))
        await voter.start(("127.0.0.1", int(addresses[name].rpartition(":")[2])))
    try:
        await eventually(lambda: all(len(voter._links) == 2 for voter in voters.values()))
        answering = {
            name: {other for other in names if voter.tells_time(Node(other))}
            for name, voter in voters.items()
        }
        assert answering == {"v1": {"v2"}, "v2": {"v1"}, "v3": set()}
    finally:
        for voter in voters.values():
            voter.destroy()
        await asyncio.sleep(0)


async def test_members_without_a_vote_hold_no_more_connections_than_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal needs descriptors, too; who is told that it has no vote need not go by itself."""
    monkeypatch.setattr("sappers.consensus.transport._STRANGERS_OF_AN_ADDRESS_MAX", 4)
    made = make_cluster_identities(tmp_path, ["v1", "v2", "m9"])
    address = ("127.0.0.1", free_port())
    voter = PeerTransport("v1", "c1", {}, made["v1"], RaftSettings(), lambda: None, lambda _: None)
    voter.farewell = lambda _: {"type": "removed", "index": 7, "term": 1}
    await voter.start(address)

    def connect() -> ssl.SSLSocket:
        held = client_context(made["m9"]).wrap_socket(
            socket.create_connection(address), server_hostname="v1"
        )
        held.sendall(frame(Hello("c1", "m9")))
        held.recv(1)  # the farewell's first byte, and nothing after it
        return held

    held = [await asyncio.to_thread(connect) for _ in range(10)]
    try:
        await eventually(lambda: sum(map(is_established, held)) <= 4, 2)
    finally:
        for one in held:
            one.close()
        voter.destroy()
        await asyncio.sleep(0)


async def test_who_was_introduced_is_heard_for_as_long_as_that_is_said(tmp_path: Path) -> None:
    """Gossip says it, so anybody may: it must not stay beside the voters for that."""
    names = ("v1", "v2", "v3")
    addresses = {name: f"127.0.0.1:{free_port()}" for name in names}
    made = make_cluster_identities(tmp_path, list(names))
    voters = {
        name: PeerTransport(
            name, "c1", addresses, made[name], RaftSettings(), lambda: None, lambda _: None
        )
        for name in names
    }
    for name, voter in voters.items():
        await voter.start(("127.0.0.1", int(addresses[name].rpartition(":")[2])))
        voter.introduce([other for other in names if other != name])
    try:
        await eventually(lambda: all(len(voter._links) == 2 for voter in voters.values()))
        voters["v1"].introduce(["v2"])  # its leader, say
        await eventually(lambda: "v3" not in voters["v1"]._links, 5)
        assert not voters["v1"].knows("v3")
        assert "v2" in voters["v1"]._links
    finally:
        for voter in voters.values():
            voter.destroy()
        await asyncio.sleep(0)


async def test_an_address_that_is_none_is_looked_at_again(tmp_path: Path) -> None:
    addresses = {"v1": f"127.0.0.1:{free_port()}", "v2": "127.0.0.1:99999"}
    made = make_cluster_identities(tmp_path, ["v1", "v2"])
    voters = {
        name: PeerTransport(
            name, "c1", addresses, made[name], RaftSettings(), lambda: None, lambda _: None
        )
        for name in made
    }
    voters["v1"].addNode(Node("v2"))
    await voters["v1"].start(("127.0.0.1", int(addresses["v1"].rpartition(":")[2])))
    await asyncio.sleep(0.1)  # it has dialled
    try:
        port = free_port()
        addresses["v2"] = f"127.0.0.1:{port}"
        await voters["v2"].start(("127.0.0.1", port))
        voters["v2"].introduce(["v1"])
        await eventually(lambda: "v2" in voters["v1"]._links, 2)
    finally:
        for voter in voters.values():
            voter.destroy()
        await asyncio.sleep(0)


def is_established(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1
