"""The way to a member whose API port is closed to this machine: through a real sshd."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sappers.agent.clock import SystemClock
from sappers.api.operator_client import OperatorClient
from sappers.api.server import ApiServer
from sappers.api.ways import Endpoint
from sappers.cli.session import ssh_forward
from sappers.errors import MemberUnreachable
from sappers.provisioner.control.record import ClusterRecord
from sappers.security.authority import create_authority
from tests.fake_member import FakeMember
from tests.identities import make_cluster_identities, make_operator_identity
from tests.integration.ssh_server import SshServer, make_home, make_host


async def test_status_reaches_a_member_over_ssh(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_home(tmp_path, monkeypatch)
    make_host(server, tmp_path)
    inventory = tmp_path / "inventory.ini"
    authority = create_authority("test")
    (identity,) = make_cluster_identities(tmp_path / "pki", ["n1"], authority=authority).values()
    operator = make_operator_identity(tmp_path / "pki", authority)
    member = FakeMember("n1", tmp_path)
    api = ApiServer(member, identity, "127.0.0.1", 0, clock=SystemClock(), refusals=member.refusals)
    await api.start()
    forward = ssh_forward(ClusterRecord(name="test", members=(), inventory=str(inventory)))
    assert forward is not None

    # On one machine no port is closed to us and open to the host, so the direct way is made up.
    closed = Endpoint("lab1", "127.0.0.1", 1, "n1")
    opened = Endpoint("lab1", "127.0.0.1", api.port, "n1")
    with OperatorClient(operator, [closed], open_forward=lambda _: forward(opened)) as client:
        assert (await asyncio.to_thread(client.view)).answered_by == "n1"

    gone = Endpoint("lab9", "127.0.0.1", 1, "n9")
    with (
        OperatorClient(operator, [gone], open_forward=forward) as client,
        pytest.raises(MemberUnreachable, match=r"lab9 .*over SSH: .*does not name it any more"),
    ):
        await asyncio.to_thread(client.view)
    await api.stop()
