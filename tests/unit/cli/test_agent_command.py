"""`sappers` as a shell calls it; no agent is started here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sappers.agent.running import RunningAgent, announce, claimed
from sappers.cli.exit_codes import ExitCode

PROGRAM = Path(sys.executable).with_name("sappers")


def run(
    *arguments: str, program: Path = PROGRAM, **environment: str
) -> subprocess.CompletedProcess[str]:
    plain = {"NO_COLOR": "1", "COLUMNS": "100", "TERMINAL_WIDTH": "100"}
    return subprocess.run(
        [program, *arguments],
        env=os.environ | plain | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_help_has_every_flag_of_the_table_examples_files_and_exit_codes() -> None:
    done = run("--help")
    assert done.returncode == 0
    for flag in (
        *("--node-id", "--gossip-port", "--raft-addr", "--http-addr", "--bootstrap", "--peers"),
        *("--launch-nanovm", "--launch-microvm", "--vm-image", "--consul-service"),
        *("--service-port", "--trigger-snapshot", "--log-level", "STATE_DIR"),
        *("Files.", "Exit codes.", "[ADDRESS]:PORT"),
        "sappers --node-id node1 --bootstrap 3 ./raft/node1",
    ):
        assert flag in done.stdout, flag


def test_a_request_without_an_agent_says_what_to_do(tmp_path: Path) -> None:
    for request in (
        ("--trigger-snapshot",),
        ("--launch-microvm", "monitor"),
        ("--launch-nanovm", ""),
    ):
        done = run(*request, str(tmp_path / "node1"))
        assert done.returncode == ExitCode.UNREACHABLE
        assert "no agent runs on" in done.stderr
        assert "start it first" in done.stderr
    assert not (tmp_path / "node1").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--bogus",), ExitCode.USAGE, "No such option"),
        (("--log-level", "LOUD", "x"), ExitCode.USAGE, "LOUD"),
        (("--gossip-port", "0", "x"), ExitCode.USAGE, "not in the range"),
        (("--bootstrap", "0", "x"), ExitCode.USAGE, "not in the range"),
        (("--vm-image", "f", "x"), ExitCode.ERROR, "--vm-image goes with --launch-nanovm"),
        (("--service-port", "80", "x"), ExitCode.ERROR, "--service-port goes with"),
        (("--raft-addr", "12000", "--bootstrap", "1", "x"), ExitCode.ERROR, "--raft-addr 12000"),
        (("--peers", "h:1", "x"), ExitCode.ERROR, "does not have the cluster's keys"),
    ],
)
def test_wrong_usage_is_two_sentences(
    tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    place = tmp_path / "raft" / "node1"
    done = run(*(str(place) if one == "x" else one for one in arguments))
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_not_foreseen_is_a_sentence_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(str(tmp_path / "file" / "node1"), SAPPERS_HOME=str(tmp_path / "home"))
    assert done.returncode == ExitCode.ERROR
    assert "NotADirectoryError" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_flag_for_starting_is_refused_while_an_agent_runs(tmp_path: Path) -> None:
    with claimed(tmp_path / "agent.lock") as lock:
        announce(lock, RunningAgent("node1", 1, "127.0.0.1", 1))
        done = run("--trigger-snapshot", "--bootstrap", "3", str(tmp_path))
        assert (done.returncode, "node1 runs there already" in done.stderr) == (1, True)
        done = run("--trigger-snapshot", "--node-id", "node2", str(tmp_path))
        assert (done.returncode, "node1 runs there, not node2" in done.stderr) == (1, True)
        done = run("--bootstrap", "3", str(tmp_path))
        assert (done.returncode, "node1, process 1, runs on it" in done.stderr) == (1, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("name", ["sappers", "sappers-deploy"])
def test_completion_for_each_shell(name: str, shell: str) -> None:
    program = PROGRAM.with_name(name)
    script = run(
        "--show-completion", shell, program=program,
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )  # fmt: skip
    assert script.returncode == 0, script.stderr
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
    assert variable in script.stdout
    begun = "--launch" if name == "sappers" else "boot"
    asked = {
        variable: f"complete_{shell}",
        "COMP_WORDS": f"{name} {begun}",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": f"{name} {begun}",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": begun,
    }
    done = run(program=program, **asked)
    for word in ("--launch-nanovm", "--launch-microvm") if begun == "--launch" else ("bootstrap",):
        assert word in done.stdout, done.stderr
