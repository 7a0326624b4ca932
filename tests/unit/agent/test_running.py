from __future__ import annotations

import os
from pathlib import Path

import pytest

from sappers.agent.running import RunningAgent, announce, claimed, find_running
from sappers.errors import StateInUse

AGENT = RunningAgent("node1", os.getpid(), "127.0.0.1", 11000)


def test_nobody_runs_where_nothing_is(tmp_path: Path) -> None:
    assert find_running(tmp_path / "agent.lock") is None


def test_an_agent_is_found_while_it_lives_and_not_by_what_it_left(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    with claimed(path) as lock:
        announce(lock, AGENT)
        assert find_running(path) == AGENT
    assert b"node1" in path.read_bytes()
    assert find_running(path) is None


def test_one_that_just_starts_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    with claimed(path) as lock:
        announce(lock, AGENT)
    with claimed(path), pytest.raises(StateInUse, match="just starting"):
        find_running(path)


def test_a_second_agent_is_refused_with_the_firsts_name(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    with claimed(path) as lock:
        announce(lock, AGENT)
        with pytest.raises(StateInUse, match=f"node1, process {os.getpid()}"), claimed(path):
            pass
    with claimed(path):
        pass
