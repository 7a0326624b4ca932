"""How guests start, as an operator sees it: one agent, started by hand, and the commands."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.assembly.by_hand import KEYS_FOLDER
from tests.integration.by_hand import AgentsByHand
from tests.integration.guests import BOOT_SECONDS, image_cache
from tests.loopback import free_port
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86"),
    pytest.mark.skipif(not shutil.which("lz4"), reason="needs lz4"),
]
WHOLE_SECONDS = 90.0


class OneAgent(AgentsByHand):
    """At the address at which a guest finds its host, so at ports of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "127.0.0.1")
        self._gossip, self._raft, self._http, self._hub = (free_port() for _ in range(4))

    def flags(self, number: int) -> list[str]:
        return [
            *("--node-id", f"node{number}", "--gossip-port", str(self._gossip)),
            *("--raft-addr", f"{self.address}:{self._raft}", "--http-addr", f":{self._http}"),
            *("--hub-port", str(self._hub)),
        ]

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`sappers-deploy ARGUMENTS`, which must end well."""
        done = self.run(*arguments, program="sappers-deploy", timeout_seconds=600)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    def ask(self, *arguments: str) -> str:
        """The same, of this cluster; what it says."""
        return self.deploy(*arguments, "--cluster", str(self.folder / KEYS_FOLDER)).stdout

    def run_hello(self, name: str, *more: str) -> None:
        """Start a workload; returns once its guest is healthy."""
        self.ask("run", name, "--image", "hello", "--port", str(free_port()), *more)

    def how_started(self, name: str) -> str:
        """What `ps` says of a workload's only guest; `events` and `explain` say the same."""
        listed = json.loads(self.ask("ps", "-o", "json"))["allocations"]
        (guest,) = (one for one in listed if one["workload"] == name)
        how = guest["reason"].rpartition("; ")[2]
        assert how in self.ask("explain", name)
        assert any(
            one["subject"] == guest["id"] and how in one["text"]
            for one in json.loads(self.ask("events", "-o", "json"))
        )
        return how


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneAgent]:
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SAPPERS_CACHE", str(image_cache().parent))
    it = OneAgent(tmp_path)
    yield it
    it.close()


def test_a_guest_starts_from_a_template_unasked_or_it_is_said_why_not(agent: OneAgent) -> None:
    agent.start(1, "--bootstrap", "1")
    wait_until("a cluster of one", lambda: agent.is_whole(1), WHOLE_SECONDS)
    agent.deploy("image", "build", "hello")
    agent.ask("image", "trust", "add")
    agent.ask("image", "push", "hello")
    assert "node1: a template was made in" in agent.ask("image", "warm", "hello")
    assert "node1: a template is there already" in agent.ask("image", "warm", "hello")

    agent.run_hello("unasked")
    assert agent.how_started("unasked") == "started from a template"
    agent.run_hello("boots", "--cold")
    assert agent.how_started("boots") == "cold boot: as it was asked for"

    (device,) = (agent.folder / "node1" / "templates").glob("[!.]*/device")
    damaged = b"another" + device.read_bytes()
    device.write_bytes(damaged)
    agent.kill("node1")  # or it would start guests from what it holds in memory
    agent.start(1)
    wait_until("it leads again", lambda: agent.is_whole(1), WHOLE_SECONDS)
    agent.run_hello("damaged")
    assert agent.how_started("damaged").startswith("cold boot: the template was damaged: ")
    wait_until("a new template", lambda: device.read_bytes() != damaged, BOOT_SECONDS)
    assert agent.how_started("unasked") == "started from a template"
