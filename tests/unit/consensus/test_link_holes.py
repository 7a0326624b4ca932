"""What pysyncobj leaves open to whoever reaches a voter: each hole twice, as in `test_holes.py`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pysyncobj import dns_resolver
from pysyncobj.node import Node, TCPNode

from sappers.config import RaftSettings
from sappers.consensus import transport
from sappers.consensus.framing import frame
from sappers.consensus.listener import SpareDescriptor
from sappers.consensus.transport import PeerTransport
from sappers.consensus.wire import Hello
from sappers.security.authority import create_authority
from sappers.security.tls import client_context
from tests.identities import make_cluster_identities, make_identity, make_operator_identity
from tests.loopback import free_port
from tests.unit.switched_off import mended, without
from tests.waiting import eventually

__all__ = ["mended", "without"]


@pytest.mark.parametrize("who", ["an operator", "itself", "another voter", "revoked"])
async def test_only_voters_under_their_own_name_are_listened_to(
    tmp_path: Path, mended: bool, without: Callable[..., None], who: str
) -> None:
    """Each says that it is v2; tests/integration/test_consensus_processes.py has more."""

    def by_its_word(_: PeerTransport, link: Any, __: object) -> None:
        link.peer_id = "v2"

    authority = create_authority("lab")
    ids = {name: make_identity(tmp_path, name, authority) for name in ("v1", "v2", "v3")}
    ids["operator"] = make_operator_identity(tmp_path, authority)
    shown = {"an operator": "operator", "itself": "v1", "another voter": "v3", "revoked": "v2"}
    settings, port = RaftSettings(), free_port()
    at = {"v1": f"127.0.0.1:{port}"}
    voter = PeerTransport("v1", "c", at, ids["v1"], settings, lambda: None, lambda _: None)
    voter.is_revoked = lambda member_id: who == "revoked" and member_id == "v2"
    heard: list[Any] = []
    voter.setOnMessageReceivedCallback(lambda node, message: heard.append((node.id, message)))
    for other in ("v2", "v3"):
        voter.addNode(Node(other))
    without(PeerTransport, "objection", by_its_word)
    await voter.start(("127.0.0.1", port))
    wish = {"type": "request_vote", "term": 99, "last_log_index": 9, "last_log_term": 9}
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(ids[shown[who]]), server_hostname="v1"
        )
        writer.write(frame(Hello("c", "v2")) + frame(wish))
        with contextlib.suppress(ConnectionError):
            while not heard and await reader.read(4096):  # its greeting, and pings
                pass
        writer.close()
    finally:
        voter.destroy()
        await asyncio.sleep(0)
    assert (heard == []) is mended
    assert [node for node, _ in heard] == ["v2"] * len(heard)


async def test_voters_that_have_nothing_to_say_keep_their_link(
    tmp_path: Path, mended: bool, without: Callable[..., None]
) -> None:
    """The library gives a link up that was silent, just when a vote is asked for."""
    without(transport, "_PING", b"")
    settings = RaftSettings(connection_timeout_seconds=0.5, ping_seconds=0.1)
    ids = make_cluster_identities(tmp_path, ["v1", "v2"])
    at = {name: f"127.0.0.1:{free_port()}" for name in ids}
    voters = {
        name: PeerTransport(name, "c", at, ids[name], settings, lambda: None, lambda _: None)
        for name in ids
    }
    lost: list[str] = []
    try:
        for name, other in (("v1", "v2"), ("v2", "v1")):
            voters[name].addNode(Node(other))
            voters[name].setOnNodeDisconnectedCallback(lambda node: lost.append(node.id))
            await voters[name].start(("127.0.0.1", int(at[name].rpartition(":")[2])))
        await eventually(lambda: all(voter._links for voter in voters.values()))
        await asyncio.sleep(4 * settings.connection_timeout_seconds)  # nothing is what happens
        assert (lost == []) is mended
    finally:
        for voter in voters.values():
            voter.destroy()
        await asyncio.sleep(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "voter.test"])
async def test_no_tick_waits_for_a_name_to_be_looked_up(
    tmp_path: Path,
    mended: bool,
    without: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
) -> None:
    """Voters have addresses; should one have a name, another thread waits for the answer."""

    async def as_the_library(self: PeerTransport, peer_id: str) -> None:
        assert TCPNode(self._addresses[peer_id]).ip  # of what it dials, even of an address

    look_up, threads = socket.getaddrinfo, list[int]()

    def noted(_: Any, *what: Any, **more: Any) -> Any:
        threads.append(threading.get_ident())
        return look_up("127.0.0.1", *what, **more)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    monkeypatch.setattr(dns_resolver, "_g_resolver", None)  # it remembers answers
    without(PeerTransport, "_dial", as_the_library)
    ids = make_cluster_identities(tmp_path, ["v1", "v2"])
    ports = {name: free_port() for name in ids}
    at = {name: f"{host}:{port}" for name, port in ports.items()}
    voters = {
        name: PeerTransport(name, "c", at, ids[name], RaftSettings(), lambda: None, lambda _: None)
        for name in ids
    }
    try:
        for name, other in (("v1", "v2"), ("v2", "v1")):
            voters[name].addNode(Node(other))
            await voters[name].start(("127.0.0.1", ports[name]))
        if mended:
            await eventually(lambda: all(voter._links for voter in voters.values()))
            assert bool(threads) is (host == "voter.test")
        else:
            await eventually(lambda: bool(threads))
        assert (threading.get_ident() not in threads) is mended
    finally:
        for voter in voters.values():
            voter.destroy()
        await asyncio.sleep(0)


PROGRAM = """
import sys
if sys.argv[1] == "mended":
    import sappers.consensus.library
import pysyncobj.syncobj
evil = b"cbuiltins\\nexec\\n(S'import sys; sys.stdout.write(chr(88))'\\ntR."
try:
    pysyncobj.syncobj.pickle.loads(evil)
except ValueError:
    pass
"""


def test_an_evil_pickle_is_not_executed(mended: bool) -> None:
    argument = "mended" if mended else "library"
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, argument], capture_output=True, text=True, check=True
    )
    assert (ran.stdout == "") is mended


def test_without_descriptors_callers_are_turned_away(
    mended: bool, without: Callable[..., None]
) -> None:
    without(SpareDescriptor, "shed", lambda *_: False)
    gc.collect()  # nothing that another test left open is closed meanwhile
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        spare = SpareDescriptor()
        with socket.create_connection(listener.getsockname()) as caller:
            caller.settimeout(60)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free_descriptor(), limits[1]))
                with pytest.raises(OSError, match="Too many open files"):
                    listener.accept()
                assert spare.shed(listener) is mended
                assert spare.shed(listener) is False, "nobody else called"
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            if mended:
                assert caller.recv(1) == b""
        spare.close()


def lowest_free_descriptor() -> int:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor
