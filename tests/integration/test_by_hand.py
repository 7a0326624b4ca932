"""Agents without provisioner, settings file or systemd: flags, and a bare STATE_DIR."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg

from sappers.assembly.by_hand import KEYS_FOLDER
from tests.integration.by_hand import AgentsByHand
from tests.loopback import own_network
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.timeout(900)
WHOLE_SECONDS = 90.0


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[AgentsByHand]:
    by_hand = AgentsByHand(tmp_path, f"{own_network()}9")
    yield by_hand
    by_hand.close()


def test_three_agents_of_one_machine_become_a_cluster_that_answers_requests(
    agents: AgentsByHand,
) -> None:
    keys = str(agents.folder / KEYS_FOLDER)
    agents.start(1, "--bootstrap", "3")
    peers = ("--peers", f"{agents.address}:17946")
    wait_until("the keys", (agents.folder / KEYS_FOLDER / "cluster.json").exists)
    agents.start(2, *peers)
    agents.start(3, *peers)
    wait_until("three members with a hub", lambda: agents.is_whole(3), WHOLE_SECONDS)

    node2 = agents.folder / "node2"
    taken = agents.run("--trigger-snapshot", str(node2))
    assert (taken.returncode, taken.stderr) == (0, "")
    view = agents.view()
    assert view is not None
    assert taken.stdout.startswith("node2 took a snapshot at index ")
    assert int(taken.stdout.split()[-1]) <= view.commit_index
    assert any((node2 / "raft").glob("*snapshot*"))

    louder = agents.run("--log-level", "debug", str(agents.folder / "node1"))
    assert (louder.returncode, louder.stdout) == (0, "node1 logs DEBUG and above\n")
    # Who is asked for the cluster calls the others, which only DEBUG says.
    wait_until("calls", lambda: bool(agents.view()) and '"httpx"' in agents.log_of("node1"))
    for name in ("node1", "node2", "node3"):
        for line in agents.log_of(name).splitlines():
            json.loads(line)

    second = agents.run(*agents.flags(2), *peers, str(node2))
    assert second.returncode == 1
    assert "node2, process" in second.stderr
    missing = agents.run("--launch-microvm", "monitor", str(node2))
    assert missing.returncode == 1
    assert "the cluster has no image monitor" in missing.stderr

    # Heartbeats come each second, and beside them little else.
    heard = agents.run("listen", "--count", "8", "--cluster", keys, program="sappers-deploy")
    assert (heard.returncode, heard.stderr) == (0, "")
    assert len(heard.stdout.splitlines()) == 8
    assert "sappers.log.heartbeat" in heard.stdout
    credentials = agents.folder / "me.creds"
    wrote = agents.run(
        *("listen", "--credentials", str(credentials), "--cluster", keys), program="sappers-deploy"
    )
    assert wrote.returncode == 0, wrote.stderr
    asyncio.run(any_client_hears_all_and_may_say_nothing(agents, credentials))

    agents.start(4, *peers)
    wait_until("a fourth member", lambda: agents.is_whole(4), WHOLE_SECONDS)


async def any_client_hears_all_and_may_say_nothing(agents: AgentsByHand, file: Path) -> None:
    """nats-py, with no more than what docs/messaging.md says: the file and the authority."""
    view = agents.view()
    assert view is not None
    server = next(one.member for one in view.members if one.member.id in view.hub_servers)
    heard: list[str] = []
    refused: list[str] = []

    async def take(message: Msg) -> None:
        heard.append(message.subject)

    async def note(error: Exception) -> None:
        refused.append(str(error).lower())

    client = await nats.connect(
        f"tls://{server.address}:{server.ports.hub}",
        tls=ssl.create_default_context(cafile=agents.folder / KEYS_FOLDER / "ca.pem"),
        user_credentials=file,
        error_cb=note,
    )
    try:
        await client.subscribe(">", cb=take)
        await eventually(lambda: "sappers.log.heartbeat" in heard)
        await eventually(lambda: any(one.endswith(".pulse") for one in heard))
        forbidden = ("sappers.app.web.forged", "sappers.log.entries", "$JS.API.STREAM.NAMES")
        for subject in forbidden:
            await client.publish(subject, b"forged")
        await eventually(lambda: len(refused) == len(forbidden))
        for subject, error in zip(forbidden, refused, strict=True):
            assert f'permissions violation for publish to "{subject.lower()}"' in error
        seen = len(heard)
        await eventually(lambda: "sappers.log.heartbeat" in heard[seen:])
        assert "sappers.app.web.forged" not in heard
        assert client.is_connected
    finally:
        await client.close()


def test_an_agent_comes_back_without_its_flags(agents: AgentsByHand) -> None:
    agents.start(1, "--bootstrap", "1")
    wait_until("a cluster of one", lambda: agents.is_whole(1), WHOLE_SECONDS)
    before = agents.view()
    agents.kill("node1")
    gone = agents.run("--trigger-snapshot", str(agents.folder / "node1"))
    assert gone.returncode == 4
    said = len(agents.log_of("node1"))
    agents.flags = lambda number: []  # type: ignore[method-assign]
    agents.start(1, "--log-level", "warn")
    wait_until("it leads again", lambda: agents.is_whole(1), WHOLE_SECONDS)
    lines = [json.loads(line) for line in agents.log_of("node1")[said:].splitlines()]
    assert not [one for one in lines if one["level"] in ("debug", "info")], "nor its raft process's"
    after = agents.view()
    assert before is not None and after is not None
    assert after.cluster_id == before.cluster_id
