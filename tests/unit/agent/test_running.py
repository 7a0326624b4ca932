from __future__ import annotations

import os
from pathlib import Path

import pytest

from sappers.agent.running import RunningAgent, announce, claimed, find_running, refuse_others
from sappers.errors import ConfigError, StateInUse

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


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "agent.lock").symlink_to("precious")
    with pytest.raises(ConfigError, match="is a link"), claimed(tmp_path / "agent.lock"):
        pass
    with pytest.raises(ConfigError, match="is a link"):
        find_running(tmp_path / "agent.lock")
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_folder_that_others_could_fill_is_refused(tmp_path: Path) -> None:
    folder, link = tmp_path / "node1", tmp_path / "link"
    folder.mkdir(mode=0o755)
    link.symlink_to(folder)
    refuse_others(folder)
    with pytest.raises(ConfigError, match="link"):
        refuse_others(link)
    for mode in (0o770, 0o702):
        folder.chmod(mode)
        with pytest.raises(ConfigError, match="can write to it"):
            refuse_others(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 23456, 23456)
    with pytest.raises(ConfigError, match="another user owns it"):
        refuse_others(tmp_path)
