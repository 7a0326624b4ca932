"""Programs of builders end with the build, however it ends: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sappers.images.programs import TOO_LATE, guarded, run_guarded
from tests.waiting import wait_until

# As Packer does: it starts a machine in a session of its own, and takes a while to end it.
PROGRAM = """\
{when_asked}
setsid sleep 1000 &
echo $$ $! > {pids}.made; mv {pids}.made {pids}
while :; do sleep 0.05; done
"""
BUILD = """\
import sys
from pathlib import Path
from sappers.images.programs import run_guarded
run_guarded(["sh", sys.argv[1]], scratch=Path(sys.argv[2]), grace_seconds=float(sys.argv[3]))
"""
POLITE = "trap 'echo asked > {asked}; exit 0' INT"
DEAF = "trap '' INT TERM HUP"


def alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def write_program(folder: Path, when_asked: str) -> Path:
    asked = when_asked.format(asked=folder / "asked")
    program = folder / "program"
    program.write_text(PROGRAM.format(pids=folder / "pids", when_asked=asked))
    return program


def started(folder: Path) -> list[int]:
    """The program and what it started, once they run."""
    wait_until("the program runs", (folder / "pids").exists)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


@pytest.mark.parametrize("when_asked", [POLITE, DEAF])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_a_build_that_is_ended(
    when_asked: str, how: signal.Signals, tmp_path: Path
) -> None:
    program = write_program(tmp_path, when_asked)
    scratch = tmp_path / "scratch"
    (scratch / "disk").mkdir(parents=True)
    grace_seconds = "60" if when_asked is POLITE else "0.2"
    with subprocess.Popen(
        [sys.executable, "-c", BUILD, str(program), str(scratch), grace_seconds],
        stderr=subprocess.DEVNULL,
    ) as build:
        pids = started(tmp_path)
        assert all(alive(pid) for pid in pids)
        build.send_signal(how)

    wait_until("its processes end", lambda: not any(alive(pid) for pid in pids))
    wait_until("the scratch folder goes", lambda: not scratch.exists())
    assert (tmp_path / "asked").exists() == (when_asked is POLITE)


def test_what_a_program_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    code, said = run_guarded(
        ["sh", "-c", f"sleep 1000 >&- 2>&- & echo $! > {tmp_path}/pid; echo hi"]
    )

    assert (code, said) == (0, "hi\n")
    assert not alive(int((tmp_path / "pid").read_text()))


def test_an_error_in_the_build_ends_its_program(tmp_path: Path) -> None:
    program = write_program(tmp_path, POLITE)
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    with (
        pytest.raises(ValueError, match="of ours"),
        guarded(["sh", str(program)], scratch=scratch),
    ):
        pids = started(tmp_path)
        raise ValueError("of ours")

    assert not any(alive(pid) for pid in pids)
    assert (tmp_path / "asked").exists()


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    code, _ = run_guarded(["sleep", "1000"], scratch=scratch, limit_seconds=0.1)

    assert code == TOO_LATE
    assert scratch.exists()  # it is the build's, which lives


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 128 + signal.SIGTERM)]
)
def test_exit_codes_are_the_programs(script: str, code: int) -> None:
    assert run_guarded(["sh", "-c", script]) == (code, "")


def test_it_gets_no_input_and_says_both_of_its_outputs_in_order(tmp_path: Path) -> None:
    script = "cat; echo one; echo two >&2; pwd; echo $SAPPERS_TEST"

    found = run_guarded(
        ["sh", "-c", script],
        folder=tmp_path,
        environment={"SAPPERS_TEST": "three", "PATH": os.defpath},
    )

    assert found == (0, f"one\ntwo\n{tmp_path}\nthree\n")


def test_what_is_not_in_the_path_is_named() -> None:
    with pytest.raises(FileNotFoundError) as missed:
        run_guarded(["sappers-has-no-such-program"])

    assert missed.value.filename == "sappers-has-no-such-program"


def test_the_program_dies_with_a_guard_that_is_killed(tmp_path: Path) -> None:
    program = write_program(tmp_path, DEAF)
    with guarded(["sh", str(program)]) as guard:
        running, machine = started(tmp_path)
        guard.kill()
        wait_until("the program ends", lambda: not alive(running))
        os.kill(machine, signal.SIGKILL)  # nobody is left to end what it started
