"""Links between voters on loopback, with certificates."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pysyncobj.node import Node

from sappers.config import RaftSettings
from sappers.consensus.transport import PeerTransport
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
