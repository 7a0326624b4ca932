"""An agent by hand is started again over a real SSH connection; a stand-in holds its lock."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.agent.running import find_running
from sappers.model.repair import Finding
from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.repair.access import access_line, with_member_access
from sappers.provisioner.repair.login import RepairKeyPair, open_executor
from sappers.provisioner.repair.restore import restore_host
from sappers.security.repair_authority import create_repair_authority
from tests.integration.ssh_server import ssh_server
from tests.integration.test_executor import alive
from tests.integration.test_repair_login import MEMBER, certificate, target
from tests.waiting import wait_until

AGENT = """#!{python}
import sys, time
from pathlib import Path
from sappers.agent.running import RunningAgent, announce, claimed
import os
if Path(sys.argv[1], "broken").exists():
    sys.exit("it will not start")
with claimed(Path(sys.argv[1], "agent.lock")) as lock:
    announce(lock, RunningAgent("node1", os.getpid(), "127.0.0.1", 1))
    time.sleep(600)
"""


@pytest.fixture
def executor() -> Iterator[Executor]:
    authority, key = create_repair_authority(), RepairKeyPair()
    with ssh_server() as server:
        path = server.folder / "authorized_keys"
        line = access_line(authority.public, MEMBER)
        path.write_bytes(with_member_access(path.read_bytes(), line, MEMBER))
        with open_executor(target(server), key, certificate(authority, key)) as running:
            yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """What starts the stand-in; it is ended afterwards."""
    program, state = tmp_path / "sappers", tmp_path / "node1"
    program.write_text(AGENT.format(python=sys.executable))
    program.chmod(0o755)
    state.mkdir()
    yield str(program), str(state)
    if agent := find_running(state / "agent.lock"):
        os.kill(agent.pid, signal.SIGKILL)


def test_an_agent_that_died_is_started_again_and_one_that_hangs_is_replaced(
    executor: Executor, start: tuple[str, str]
) -> None:
    steps: list[str] = []
    finding, text = restore_host(executor, "r/1", steps.append, start)
    assert finding is Finding.RESTORED, (text, steps)
    assert steps == [f"logged in: no agent runs on {start[1]}", f"starting {' '.join(start)}"]
    first = find_running(Path(start[1]) / "agent.lock")
    assert first is not None

    finding, text = restore_host(executor, "r/2", steps.append, start)
    assert finding is Finding.RESTORED, (text, steps)
    assert f"process {first.pid} runs" in steps[2]
    second = find_running(Path(start[1]) / "agent.lock")
    assert second is not None
    assert second.pid != first.pid
    wait_until("the first is ended", lambda: not alive(first.pid))


def test_one_that_does_not_start_is_told_with_its_last_words(
    executor: Executor, start: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.provisioner.repair.restore_by_hand.START_SECONDS", 6.0)
    Path(start[1], "broken").touch()
    Path(start[1], "agent.lock").write_text(json.dumps({"pid": os.getpid()}))
    finding, text = restore_host(executor, "r/1", lambda _: None, start)
    assert finding is Finding.FAILED
    assert "it will not start" in text
